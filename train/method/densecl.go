package method

import (
	"math"
	"math/rand/v2"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// DenseCL are the options of DenseCL. Its heads are of the common options
// head-hidden and head-dim, which the paper has as 2048 and 128.
type DenseCL struct {
	Queue       int // keys of earlier batches that a queue holds
	Temperature float64
	Weight      float64 // of the loss of cells; that of whole images has the rest
}

// Rows implements options.Section.
func (c *DenseCL) Rows() []options.Row {
	return []options.Row{
		options.New("densecl-queue", &c.Queue, "keys of earlier batches that DenseCL's queues hold", options.Within(1, device.MaxIndex)),
		options.New("densecl-tau", &c.Temperature, "temperature of DenseCL", options.Above(0)),
		options.New("densecl-weight", &c.Weight, "weight of DenseCL's loss of cells, from 0 to 1; that of whole images has the rest", options.Within(0., 1)),
	}
}

func init() {
	Register("densecl", "DenseCL, best with head-hidden 2048 and head-dim 128",
		func() *DenseCL { return &DenseCL{Queue: 65536, Temperature: 0.2, Weight: 0.5} }, newDenseCL)
}

// denseCL tells an image's projection from those of earlier images (MoCo), and
// each cell's from those of earlier images' averaged cells. A cell's positive is
// the cell of the other view whose features of the encoder are most alike
// (section 3 of Wang et al., "Dense Contrastive Learning for Self-Supervised
// Visual Pre-Training", CVPR 2021).
//
// Both views go through both branches, so the loss is the mean of both
// directions, and a batch leaves 2N keys in each queue; the published
// implementation computes one direction and leaves N. With accumulated batches,
// each leaves its keys at once.
type denseCL struct {
	DenseCL
	cells, keyCells *plainHead
	whole, keyWhole *plainHead
	// Unit vectors, Queue x C: keys of whole images, and averaged keys of cells.
	queue, cellQueue *nn.Parameter
	position         *nn.Parameter // 1: the row of the oldest keys
}

func newDenseCL(b *Builder, c *DenseCL) (Loss, error) {
	l := &denseCL{DenseCL: *c}
	head := func(n nn.Builder) *plainHead {
		return &plainHead{n.Pointwise("linear1", b.Channels, b.Options.HeadHidden), n.Pointwise("linear2", b.Options.HeadHidden, b.Options.HeadDim)}
	}
	l.cells, l.keyCells = Twin(b, "projector", head)
	l.whole, l.keyWhole = Twin(b, "projector_instance", head)
	shape := []int{c.Queue, b.Options.HeadDim}
	l.queue = b.Query().Statistic("queue", shape, randomUnits(shape))
	l.cellQueue = b.Query().Statistic("queue2", shape, randomUnits(shape))
	l.position = b.Query().Statistic("queue_ptr", []int{1}, func([]float32, *rand.Rand) {})
	return l, nil
}

// randomUnits fills rows with unit vectors of random directions.
func randomUnits(shape []int) func(values []float32, rng *rand.Rand) {
	return func(values []float32, rng *rand.Rand) {
		for row := values; len(row) > 0; row = row[shape[1]:] {
			var sum float64
			for i := range shape[1] {
				row[i] = float32(rng.NormFloat64())
				sum += float64(row[i]) * float64(row[i])
			}
			for i := range shape[1] {
				row[i] = float32(float64(row[i]) / math.Sqrt(sum))
			}
		}
	}
}

// plainHead is a projection head without batch norm: 1x1 convolution, ReLU, 1x1
// convolution.
type plainHead struct{ linear1, linear2 *nn.Conv }

func (h *plainHead) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	return h.linear2.Forward(t, nn.ReLU(t, h.linear1.Forward(t, x)))
}

// Compute implements Loss.
func (l *denseCL) Compute(s *Step) (r Result) {
	t, kt := s.Tape, s.KeyTape
	// Unit vectors, N x H x W x C, of 2N images.
	cells := nn.Normalize(t, l.cells.Forward(t, s.Features()))
	whole := nn.Normalize(t, l.whole.Forward(t, average(t, s.Features())))
	projected := l.keyCells.Forward(kt, s.KeyFeatures())
	averaged := nn.Normalize(kt, average(kt, projected.Retain()))
	keyCells := nn.Normalize(kt, projected)
	keyWhole := nn.Normalize(kt, l.keyWhole.Forward(kt, average(kt, s.KeyFeatures())))
	if s.Observe {
		r.ProjectionStd = MeanStd(s.Device, keyCells.Value)
	}

	// The other view's cell whose features are most alike, for each cell.
	images := cells.Value.Shape[0]
	other := images / 2
	features := nn.Roll(kt, asRows(kt, nn.Normalize(kt, s.KeyFeatures())), other)
	likeness := nn.Multiply(kt, asRows(kt, nn.Normalize(kt, s.Features())), features, true)
	match := nn.ArgMax(kt, likeness)
	positives := nn.Gather(kt, nn.Roll(kt, asRows(kt, keyCells), other), match)

	wholeLosses := l.contrast(s, whole, nn.Roll(kt, keyWhole.Retain(), other), l.queue)
	cellLosses := l.contrast(s, cells, positives, l.cellQueue)
	r.Loss = s.Sum(wholeLosses, s.Share*(1-l.Weight)/float64(wholeLosses.Value.Len())) +
		s.Sum(cellLosses, s.Share*l.Weight/float64(cellLosses.Value.Len()))
	l.remember(s.Device, keyWhole.Value, averaged.Value)
	keyWhole.Release()
	averaged.Release()
	return r
}

// asRows is a map's cells as the rows of a matrix: N x HW x C.
func asRows(t *nn.Tape, x *nn.Var) *nn.Var {
	s := x.Value.Shape
	return nn.Reshape(t, x, s[0], s[1]*s[2], s[3])
}

// contrast is the cross entropy of finding each query's positive, at the same
// row, among the negatives of a queue: log(e^p + sum e^n) - p, with the cosines
// over the temperature.
func (l *denseCL) contrast(s *Step, queries, positives *nn.Var, queue *nn.Parameter) *nn.Var {
	t, d := s.Tape, s.Device
	rows, c := queries.Value.Rows(), queries.Value.Channels()
	// The backward pass reads the negatives when the queue holds later keys.
	negatives := d.Alloc(1, l.Queue, c)
	d.Copy(negatives, device.Place{}, queue.Value, device.Place{}, l.Queue, c)

	positive := nn.Combine(t, 1/l.Temperature, nn.RowProducts(t, queries.Retain(), positives), 0, nil)
	cosines := nn.Multiply(t, nn.Reshape(t, queries, 1, rows, c), t.Input(negatives), true)
	others := nn.LogSumExp(t, nn.Reshape(t, cosines, rows, l.Queue), nil, l.Temperature)
	all := nn.Join(t, nn.Reshape(t, positive.Retain(), rows, 1), nn.Reshape(t, others, rows, 1))
	return nn.Combine(t, 1, nn.LogSumExp(t, all, nil, 1), -1, positive)
}

// remember puts a batch's keys, rows of unit vectors, in the place of the oldest.
func (l *denseCL) remember(d device.Device, whole, averaged device.Tensor) {
	position := make([]float32, 1)
	d.Download(position, l.position.Value)
	at := 0
	if p := position[0]; p > 0 && p < float32(l.Queue) { // else of another queue: see train's option init
		at = int(p)
	}
	for first := 0; first < whole.Rows(); {
		n := min(whole.Rows()-first, l.Queue-at)
		to, from := device.Place{Row: at}, device.Place{Row: first}
		d.Copy(l.queue.Value, to, whole, from, n, whole.Channels())
		d.Copy(l.cellQueue.Value, to, averaged, from, n, averaged.Channels())
		first, at = first+n, (at+n)%l.Queue
	}
	position[0] = float32(at)
	d.Upload(l.position.Value, position)
}

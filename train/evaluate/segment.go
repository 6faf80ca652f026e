package evaluate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/optim"
	"github.com/seed-436d2970/pixpro/train/options"
)

// The kinds of probes.
const (
	LinearProbe = "linear" // a 1x1 convolution
	MLPProbe    = "mlp"    // a 1x1 convolution, batch norm, ReLU, and another
)

// ProbeOptions say how a classifier of cells is trained. But for
// Rate, zero fields are not defaults: see DefaultProbe.
type ProbeOptions struct {
	Kind    string  // LinearProbe or MLPProbe
	Epochs  int     // times that every image is drawn
	Batch   int     // images a step
	Rate    float64 // first learning rate, which goes to 0 as half a cosine; 0: 10, or 1 for MLPProbe
	Decay   float64 // weight decay
	Seed    uint64  // of the first weights and the order of the images
	Workers int
	// Listener is told of Progress after every step.
	Listener Listener
}

// DefaultProbe is a linear probe.
func DefaultProbe() ProbeOptions {
	return ProbeOptions{Kind: LinearProbe, Epochs: 20, Batch: 16, Decay: 1e-5, Workers: 1}
}

// Validate returns an *options.Error about the first option that cannot be used.
func (o *ProbeOptions) Validate() error {
	switch {
	case o.Kind != LinearProbe && o.Kind != MLPProbe:
		return &options.Error{Name: "probe", Value: o.Kind, Want: "use linear or mlp"}
	case o.Epochs < 1:
		return &options.Error{Name: "probe-epochs", Value: fmt.Sprint(o.Epochs), Want: "must be at least 1"}
	case o.Batch < 1:
		return &options.Error{Name: "probe-batch", Value: fmt.Sprint(o.Batch), Want: "must be at least 1"}
	case !(o.Rate >= 0) || math.IsInf(o.Rate, 0):
		return &options.Error{Name: "probe-lr", Value: fmt.Sprint(o.Rate), Want: "must not be negative"}
	case !(o.Decay >= 0) || math.IsInf(o.Decay, 0):
		return &options.Error{Name: "probe-weight-decay", Value: fmt.Sprint(o.Decay), Want: "must not be negative"}
	}
	return nil
}

// rate is the first learning rate.
func (o *ProbeOptions) rate() float64 {
	switch {
	case o.Rate > 0:
		return o.Rate
	case o.Kind == MLPProbe:
		return 1
	}
	return 10
}

const (
	probeMomentum = 0.9
	probeHidden   = 512 // channels inside an MLP probe
	// labelsPerCell is along a side of a cell: at so many places the loss
	// compares the interpolated scores with the mask.
	labelsPerCell = 4
)

// Segment trains a probe on the maps of training images and returns its scores
// on all pixels of the other images' masks. The device computes the probe;
// features are scaled to mean 0 and deviation 1 of each channel over the
// training cells, and divided by the root of the number of channels, so that
// one learning rate suits all encoders.
func Segment(ctx context.Context, d device.Device, trainSet, valSet *Features, trainMasks, valMasks []Mask, classes int, opts ProbeOptions) (Scores, error) {
	if err := opts.Validate(); err != nil {
		return Scores{}, fmt.Errorf("evaluate: %w", err)
	}
	switch {
	case opts.Kind == MLPProbe && min(opts.Batch, trainSet.Len())*trainSet.Rows*trainSet.Cols < 2:
		return Scores{}, errors.New("evaluate: the batch norm of an mlp probe needs more than one cell a batch: use more images a batch, larger images, or a linear probe")
	case trainSet.Channels != valSet.Channels:
		return Scores{}, fmt.Errorf("evaluate: features of %d channels to learn from and of %d to measure on", trainSet.Channels, valSet.Channels)
	}
	if err := checkMasks(trainSet, trainMasks, classes); err != nil {
		return Scores{}, err
	}
	if err := checkMasks(valSet, valMasks, classes); err != nil {
		return Scores{}, err
	}
	scale := newStandard(trainSet)
	p := newProbe(d, trainSet.Channels, classes, opts)
	defer p.free()
	if err := p.train(ctx, trainSet, trainMasks, scale, opts); err != nil {
		return Scores{}, err
	}
	scores := make([][]float32, valSet.Len())
	for from := 0; from < len(scores); from += opts.Batch {
		if err := ctx.Err(); err != nil {
			return Scores{}, err
		}
		n := min(opts.Batch, len(scores)-from)
		out := p.forward(nn.NewTape(d, nn.Inference, 1), valSet, scale, sequence(from, n))
		values := make([]float32, out.Value.Len())
		d.Download(values, out.Value)
		out.Release()
		for i := range n {
			scores[from+i] = values[i*len(values)/n : (i+1)*len(values)/n]
		}
	}
	if err := d.Sync(); err != nil {
		return Scores{}, fmt.Errorf("evaluate: probe: %w", err)
	}
	return count(scores, valSet.Rows, valSet.Cols, classes, valMasks, opts.Workers).Scores(), nil
}

// checkMasks refuses masks that do not belong to the maps, or have a class that
// there is not.
func checkMasks(f *Features, masks []Mask, classes int) error {
	if f.Len() == 0 || len(masks) != f.Len() {
		return fmt.Errorf("evaluate: %d masks for the maps of %d images: there must be one each", len(masks), f.Len())
	}
	if classes < 1 || classes > Ignore {
		return fmt.Errorf("evaluate: %d classes: use 1 to %d", classes, Ignore)
	}
	if err := f.Cells().check(); err != nil {
		return err
	}
	for i := range masks {
		if m := &masks[i]; m.Width < 1 || m.Height < 1 || len(m.Classes) != m.Width*m.Height {
			return fmt.Errorf("evaluate: mask %d of %d x %d pixels has %d values", i, m.Width, m.Height, len(m.Classes))
		}
		for _, c := range masks[i].Classes {
			if int(c) >= classes && c != Ignore {
				return fmt.Errorf("evaluate: mask %d has class %d, of %d classes", i, c, classes)
			}
		}
	}
	return nil
}

func sequence(from, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = from + i
	}
	return s
}

// count compares the highest of the interpolated scores at each pixel with the
// masks. There may be more kinds of scores than classes in the masks.
func count(scores [][]float32, rows, cols, kinds int, masks []Mask, workers int) *Confusion {
	parts := make([]*Confusion, max(1, min(workers, len(masks))))
	for worker := range parts {
		parts[worker] = NewConfusion(kinds)
	}
	parallel.ForWorker(len(masks), workers, func(worker, i int) {
		c, m := parts[worker], &masks[i]
		u := newUpsampler(rows, cols, kinds, m.Height, m.Width)
		line := make([]float32, m.Width*kinds)
		for y := range m.Height {
			u.row(line, scores[i], y)
			for x, truth := range m.Classes[y*m.Width : (y+1)*m.Width] {
				if truth == Ignore {
					continue
				}
				at := line[x*kinds : (x+1)*kinds]
				best := 0
				for k, s := range at {
					if s > at[best] {
						best = k
					}
				}
				c.Add(int(truth), best, 1)
			}
		}
	})
	sum := NewConfusion(kinds)
	for _, c := range parts {
		sum.Merge(c)
	}
	return sum
}

// standard scales features, channel by channel.
type standard struct{ mean, scale []float32 }

// leastDeviation is the part of the channels' median deviation below which a
// channel is not scaled up any further: one that hardly ever changes would
// otherwise be as loud as the others.
const leastDeviation = 0.01

func newStandard(f *Features) standard {
	mean, deviation := make([]float64, f.Channels), make([]float64, f.Channels)
	changes := make([]bool, f.Channels)
	n := float64(f.Cells().Len())
	for i, v := range f.Values {
		c := i % f.Channels
		mean[c] += float64(v) / n
		changes[c] = changes[c] || v != f.Values[c]
	}
	for i, v := range f.Values {
		d := float64(v) - mean[i%f.Channels]
		deviation[i%f.Channels] += d * d / n
	}
	var alive []float64
	for c, variance := range deviation {
		deviation[c] = math.Sqrt(variance)
		if changes[c] {
			alive = append(alive, deviation[c])
		}
	}
	s := standard{make([]float32, f.Channels), make([]float32, f.Channels)}
	if len(alive) == 0 {
		return s // nothing to learn from
	}
	slices.Sort(alive)
	least := leastDeviation * alive[len(alive)/2]
	for c, d := range deviation {
		if !changes[c] { // says nothing
			continue
		}
		s.mean[c] = float32(mean[c])
		s.scale[c] = float32(1 / (max(d, least) * math.Sqrt(float64(f.Channels))))
	}
	return s
}

// apply writes a scaled map to dst.
func (s standard) apply(dst, m []float32) {
	channels := len(s.mean)
	for from := 0; from < len(m); from += channels {
		to, cell := dst[from:from+channels], m[from:from+channels]
		for c, v := range cell {
			to[c] = (v - s.mean[c]) * s.scale[c]
		}
	}
}

// probe is a classifier of cells.
type probe struct {
	device  device.Device
	classes int
	layer   interface {
		Forward(*nn.Tape, *nn.Var) *nn.Var
	}
	parameters []*nn.Parameter
}

func newProbe(d device.Device, channels, classes int, opts ProbeOptions) *probe {
	p := &probe{device: d, classes: classes}
	b := nn.Builder{Device: d, Seed: opts.Seed, Gradients: true, List: &p.parameters}
	if opts.Kind == MLPProbe {
		p.layer = model.NewHead(b, channels, probeHidden, classes)
	} else {
		p.layer = b.Pointwise("linear", channels, classes)
	}
	return p
}

// free gives the parameters' memory back.
func (p *probe) free() {
	for _, q := range p.parameters {
		p.device.Free(q.Value)
		if q.Grad.Exists() {
			p.device.Free(q.Grad)
		}
	}
}

// forward computes the scores of the given maps: n x rows x cols x classes.
func (p *probe) forward(t *nn.Tape, f *Features, scale standard, images []int) *nn.Var {
	x := make([]float32, len(images)*f.Rows*f.Cols*f.Channels)
	size := len(x) / len(images)
	for i, image := range images {
		scale.apply(x[i*size:(i+1)*size], f.Map(image))
	}
	v := p.device.Alloc(len(images), f.Rows, f.Cols, f.Channels)
	p.device.Upload(v, x)
	return p.layer.Forward(t, t.Input(v))
}

// train fits the probe to the masks.
func (p *probe) train(ctx context.Context, f *Features, masks []Mask, scale standard, opts ProbeOptions) error {
	n := f.Len()
	height, width := f.Rows*labelsPerCell, f.Cols*labelsPerCell
	labels := make([][]uint8, n)
	counted := make([]int, n) // labels that are not ignored
	parallel.For(n, opts.Workers, func(i int) {
		labels[i] = make([]uint8, 0, height*width)
		for y := range height {
			for x := range width {
				c := masks[i].At((float64(x)+0.5)/float64(width), (float64(y)+0.5)/float64(height))
				labels[i] = append(labels[i], c)
				if c != Ignore {
					counted[i]++
				}
			}
		}
	})

	if !slices.ContainsFunc(counted, func(n int) bool { return n > 0 }) {
		return errors.New("evaluate: no mask to learn from has a class at the places that the probe looks at, 4 x 4 a cell: use larger images, an earlier stage, or masks with more labelled pixels")
	}
	var trained []*nn.Parameter
	for _, q := range p.parameters {
		if !q.Statistic {
			trained = append(trained, q)
		}
	}
	optimizer := optim.New(p.device, trained, optim.Config{Kind: optim.SGD, Momentum: probeMomentum, WeightDecay: opts.Decay})
	batch := min(opts.Batch, n)
	steps := n / batch // an epoch; what does not fill a batch waits for another order
	rng := rand.New(rand.NewPCG(opts.Seed, 0x5e9))
	total, done := opts.Epochs*steps, 0
	rate := opts.rate()
	size := f.Rows * f.Cols * p.classes
	gradient := make([]float32, batch*size)
	values := make([]float32, batch*size)
	for range opts.Epochs {
		order := rng.Perm(n)
		for step := range steps {
			if err := ctx.Err(); err != nil {
				return err
			}
			images := order[step*batch : (step+1)*batch]
			sum := 0
			for _, i := range images {
				sum += counted[i]
			}
			done++
			for _, q := range trained {
				p.device.Zero(q.Grad)
			}
			tape := nn.NewTape(p.device, nn.Train, 1)
			out := p.forward(tape, f, scale, images)
			p.device.Download(values, out.Value)
			clear(gradient)
			losses := make([]float64, batch)
			parallel.For(batch, opts.Workers, func(i int) {
				u := newUpsampler(f.Rows, f.Cols, p.classes, height, width)
				losses[i] = crossEntropy(gradient[i*size:(i+1)*size], values[i*size:(i+1)*size], labels[images[i]], u, 1/float64(max(sum, 1)))
			})
			for _, loss := range losses {
				if math.IsNaN(loss) || math.IsInf(loss, 0) {
					return errors.New("evaluate: the probe's loss is not finite: features that are not finite, or too high a learning rate")
				}
			}
			dy := p.device.Alloc(out.Value.Shape...)
			p.device.Upload(dy, gradient)
			out.AddGrad(dy)
			tape.Backward()
			out.Release()
			optimizer.Step(rate * 0.5 * (1 + math.Cos(math.Pi*float64(done-1)/float64(total))))
			opts.Listener.Tell(Progress{"classifier", int64(done), int64(total)})
		}
	}
	if err := p.device.Sync(); err != nil {
		return fmt.Errorf("evaluate: probe: %w", err)
	}
	return nil
}

// crossEntropy is the sum, times share, of the cross entropies of the
// interpolated scores with the labels; its gradient is added to grad.
func crossEntropy(grad, scores []float32, labels []uint8, u *upsampler, share float64) float64 {
	classes, width := u.channels, len(u.x)
	line := make([]float32, width*classes)
	loss := 0.0
	for y := range u.y {
		u.row(line, scores, y)
		for x, label := range labels[y*width : (y+1)*width] {
			at := line[x*classes : (x+1)*classes]
			if label == Ignore {
				clear(at)
				continue
			}
			top := at[0]
			for _, s := range at[1:] {
				top = max(top, s)
			}
			sum := 0.0
			chosen := float64(at[label] - top)
			for k, s := range at {
				e := math.Exp(float64(s - top))
				sum += e
				at[k] = float32(e)
			}
			loss += share * (math.Log(sum) - chosen)
			for k, e := range at {
				at[k] = float32(share * float64(e) / sum)
			}
			at[label] -= float32(share)
		}
		u.spread(grad, line, y)
	}
	return loss
}

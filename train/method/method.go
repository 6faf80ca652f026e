package method

import (
	"fmt"
	"math"
	"sync"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// Loss is a method's heads and loss.
type Loss interface {
	// Compute returns the loss of a batch and puts gradients on what it computed
	// on the step's Tape, whose Backward then goes through the encoder.
	Compute(s *Step) Result
}

// Result is what a loss found.
type Result struct {
	Loss float64 // Step.Share times the mean over the pairs
	// ProjectionStd is the standard deviation of the unit vectors of the key
	// branch's projections over all cells of the batch, averaged over the
	// channels: 0 when all features are the same, at most 1/sqrt(channels), when
	// they spread evenly. 0 where Step.Observe is not set.
	ProjectionStd float64
}

// Step is a batch of N pairs on its way through the losses.
type Step struct {
	Device device.Device
	// Tape records the query branch, KeyTape runs the key branch and records
	// nothing.
	Tape, KeyTape *nn.Tape
	Coords        device.Tensor // 2N x 4: where the views lie, see augment.Coord
	Share         float64       // that the loss and its gradients count
	Observe       bool          // compute Result.ProjectionStd

	features, keyFeatures *nn.Var
}

// Features is the query encoder's map, 2N x H x W x C, with a reference for one
// use.
func (s *Step) Features() *nn.Var { return s.features.Retain() }

// KeyFeatures is the key encoder's map, with a reference for one use.
func (s *Step) KeyFeatures() *nn.Var { return s.keyFeatures.Retain() }

// compare normalises projections of 2N images, which it consumes, computes each
// image's loss and the queries' gradient, and sums the losses.
func (s *Step) compare(queries, keys *nn.Var, share float64, compute func(q, k *nn.Var, m device.Matching) (losses device.Tensor)) (r Result) {
	d := s.Device
	q, k := nn.Normalize(s.Tape, queries), nn.Normalize(s.KeyTape, keys)
	images := q.Value.Shape[0]
	losses := compute(q, k.Retain(), device.Matching{KeyShift: images / 2, Scale: 2 * share / float64(images)})
	if s.Observe {
		r.ProjectionStd = MeanStd(d, k.Value)
	}
	k.Release()
	perImage := make([]float32, images)
	d.Download(perImage, losses)
	d.Free(losses)
	for _, l := range perImage {
		r.Loss += float64(l)
	}
	return r
}

// Sum returns scale times the sum of losses, and puts that gradient on them:
// what a loss that is composed of operations on the step's Tape ends with. It
// consumes losses, of any shape.
func (s *Step) Sum(losses *nn.Var, scale float64) float64 {
	d := s.Device
	values := make([]float32, losses.Value.Len())
	d.Download(values, losses.Value)
	var sum float64
	for i, l := range values {
		sum += float64(l)
		values[i] = float32(scale)
	}
	gradient := d.Alloc(losses.Value.Shape...)
	d.Upload(gradient, values)
	losses.AddGrad(gradient)
	losses.Release()
	return scale * sum
}

// MeanStd is Result.ProjectionStd of unit vectors, the rows of t: the mean over
// the channels of the standard deviation over the rows.
func MeanStd(d device.Device, t device.Tensor) float64 {
	values := make([]float32, t.Len())
	d.Download(values, t)
	c, rows := t.Channels(), float64(t.Rows())
	sums, squares := make([]float64, c), make([]float64, c)
	for ; len(values) >= c; values = values[c:] {
		for i, v := range values[:c] {
			sums[i] += float64(v)
			squares[i] += float64(v) * float64(v)
		}
	}
	var mean float64
	for i, sum := range sums {
		mean += math.Sqrt(max(0, squares[i]/rows-sum/rows*sum/rows)) / float64(c)
	}
	return mean
}

// builders build the losses of the registered methods from their options.
var (
	buildersMutex sync.Mutex
	builders      = map[string]func(*Builder, options.Section) (Loss, error){}
)

// Register makes a method known under a name: what help says of it, its options
// with their defaults, and how its Loss is built. A name registered twice
// panics.
func Register[S options.Section](name, help string, defaults func() S, build func(b *Builder, s S) (Loss, error)) {
	options.RegisterMethod(name, help, func() options.Section { return defaults() })
	buildersMutex.Lock()
	defer buildersMutex.Unlock()
	builders[name] = func(b *Builder, s options.Section) (Loss, error) { return build(b, s.(S)) }
}

// Options is the section of o of that type: the options of the method that was
// registered with it. It panics if there is none.
//
//	method.Options[*method.PixPro](&o).Gamma = 1
func Options[S options.Section](o *options.Options) S {
	for _, name := range options.Methods() {
		if s, ok := o.SectionOf(name).(S); ok {
			return s
		}
	}
	panic(fmt.Sprintf("method: no method has options of type %T", *new(S)))
}

// Builder makes the heads of a method and collects their parameters.
type Builder struct {
	Options  *options.Options
	Channels int // of the encoders' feature maps

	device            device.Device
	twins, keys, solo []*nn.Parameter
}

// Twin builds a part that both branches have under a name: build is called for
// the query branch, and then for the key branch with the name and "_k". The
// latter starts as a copy of the former, and becomes its moving average.
func Twin[L any](b *Builder, name string, build func(nn.Builder) L) (query, key L) {
	query = build(nn.Builder{Device: b.device, Seed: b.Options.Seed, Gradients: true, List: &b.twins}.In(name))
	key = build(nn.Builder{Device: b.device, Seed: b.Options.Seed, List: &b.keys}.In(name + "_k"))
	return query, key
}

// Query is the builder of parts that the query branch alone has.
func (b *Builder) Query() nn.Builder {
	return nn.Builder{Device: b.device, Seed: b.Options.Seed, Gradients: true, List: &b.solo}
}

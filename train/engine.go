package train

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/optim"
)

// views is what one step learns from.
type views struct {
	pairs, size int
	pixels      [2][]uint8   // pairs x 3 x size x size
	coords      [2][]float32 // pairs x 4

	normalization pipeline.Normalization
}

// engine is the method without the loop: one call a step.
type engine struct {
	device    device.Device
	model     *method.Model
	optimizer *optim.Optimizer
}

// newEngine builds a run's model and optimiser on a device.
func newEngine(d device.Device, o *Options) (*engine, error) {
	encoder, err := o.Encoder()
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return newEngineOf(d, encoder, o)
}

// newEngineOf is newEngine with an encoder of any architecture.
func newEngineOf(d device.Device, encoder model.ResNet, o *Options) (*engine, error) {
	m, err := method.New(d, encoder, o)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return &engine{device: d, model: m, optimizer: optim.New(d, m.Trained(), o.OptimizerConfig())}, nil
}

// begin starts a step: gradients are zero, and the key branch has moved.
func (e *engine) begin(keyMomentum float64) {
	e.model.ZeroGradients()
	e.model.UpdateKeys(keyMomentum)
}

// add computes share times the loss of a batch and adds its gradients.
func (e *engine) add(v views, share float64, observe bool) method.Result {
	d := e.device
	coords := d.Alloc(2*v.pairs, 4)
	d.Upload(coords, append(append(make([]float32, 0, 8*v.pairs), v.coords[0]...), v.coords[1]...))
	pixels := d.AllocActivation(2*v.pairs, v.size, v.size, 3)
	d.UploadViews(pixels, v.pixels, v.normalization.Mean, v.normalization.Std)
	result := e.model.Loss(pixels, coords, share, observe)
	d.Free(coords)
	return result
}

// update moves the parameters by the gradients.
func (e *engine) update(learningRate float64) { e.optimizer.Step(learningRate) }

// repeat makes a whole step from the same batch again and again, as often as a
// run accumulates.
func (e *engine) repeat(v views, keyMomentum, learningRate float64, accumulate int) {
	e.begin(keyMomentum)
	for range accumulate {
		e.add(v, 1/float64(accumulate), false)
	}
	e.update(learningRate)
}

func viewsOf(b *pipeline.Batch, n pipeline.Normalization) views {
	return views{
		pairs: b.Len(), size: b.Size(),
		pixels: [2][]uint8{b.Views(0), b.Views(1)},
		coords: [2][]float32{b.Coords(0), b.Coords(1)},

		normalization: n,
	}
}

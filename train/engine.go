package train

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/objective"
	"github.com/seed-436d2970/pixpro/train/optim"
)

// Colour statistics of ImageNet, by which views are normalised.
var (
	colourMean = [3]float64{0.485, 0.456, 0.406}
	colourStd  = [3]float64{0.229, 0.224, 0.225}
)

// views is what one step learns from.
type views struct {
	pairs, size int
	pixels      [2][]uint8   // pairs x 3 x size x size
	coords      [2][]float32 // pairs x 4
}

// engine is the method without the loop: one call a step.
type engine struct {
	device    device.Device
	model     *model.Model
	objective objective.Config
	optimizer *optim.Optimizer
}

// begin starts a step: gradients are zero, and the key branch has moved.
func (e *engine) begin(keyMomentum float64) {
	e.model.ZeroGradients()
	e.model.UpdateKeys(keyMomentum)
}

// add computes share times the loss of a batch and adds its gradients.
func (e *engine) add(v views, share float64) objective.Result {
	d := e.device
	coords := d.Alloc(2*v.pairs, 4)
	d.Upload(coords, append(append(make([]float32, 0, 8*v.pairs), v.coords[0]...), v.coords[1]...))

	tape := nn.NewTape(d, nn.Train, 2)
	pixels := tape.Input(d.AllocActivation(2*v.pairs, v.size, v.size, 3))
	d.UploadViews(pixels.Value, v.pixels, colourMean, colourStd)
	queries := e.model.Queries(tape, pixels.Retain())
	keys := e.model.Keys(nn.NewTape(d, nn.Keys, 2), pixels)
	result := e.objective.Loss(tape, queries, keys, coords, share)
	tape.Backward()
	d.Free(coords)
	return result
}

// step is a whole step whose batches are all the same one.
func (e *engine) step(v views, keyMomentum, learningRate float64, batches int) {
	e.begin(keyMomentum)
	for range batches {
		e.add(v, 1/float64(batches))
	}
	e.update(learningRate)
}

// update moves the parameters by the gradients.
func (e *engine) update(learningRate float64) { e.optimizer.Step(learningRate) }

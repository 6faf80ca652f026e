// Package objective computes the pixel losses of PixPro and PixContrast
// ("Propagate Yourself", Xie et al., CVPR 2021): projections of two views and
// the views' coordinates go in, the loss and the projections' gradient come out.
//
// Both views lie in one batch, the first views before the second. Positives of
// a cell are the cells of the other view of the same image whose centres, in
// the image, are nearer than a threshold in units of the larger cell diagonal.
package objective

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// Config chooses the loss.
type Config struct {
	Method        string  // model.PixPro or model.PixContrast
	PositiveRatio float64 // threshold of a positive pair, 0.7 in the paper
	Temperature   float64 // of PixContrast, 0.3 in the paper
}

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	switch {
	case c.PositiveRatio <= 0:
		return fmt.Errorf("positive ratio %g: must be above 0", c.PositiveRatio)
	case c.Method == model.PixContrast && c.Temperature <= 0:
		return fmt.Errorf("temperature %g: must be above 0", c.Temperature)
	}
	return nil
}

// Loss is the mean over the pairs of the loss in both directions: the sum of
// both for PixPro, in [-4, 4], and their mean for PixContrast. It puts its
// gradient on the queries; tape.Backward then computes that of the parameters.
//
// queries and keys are projections of 2N images, 2N x h x w x C, of any
// length; coords, 2N x 4, are the views' coordinates. All but coords are
// consumed.
func (c *Config) Loss(tape *nn.Tape, queries, keys *nn.Var, coords device.Tensor) float64 {
	d := tape.Device
	q := nn.Normalize(tape, queries)
	keyTape := nn.NewTape(d, nn.Keys, tape.Groups)
	k := nn.Normalize(keyTape, keys)
	images := q.Value.Shape[0]
	match := device.Matching{
		CoordQ: coords, CoordK: coords, Threshold: c.PositiveRatio,
		KeyShift: images / 2, Scale: 2 / float64(images),
	}
	losses, dq := d.Alloc(images), d.Alloc(q.Value.Shape...)
	if c.Method == model.PixContrast {
		match.Scale /= 2
		d.PixContrastLoss(losses, dq, q.Value, k.Value, match, c.Temperature)
	} else {
		d.PixProLoss(losses, dq, q.Value, k.Value, match)
	}
	q.AddGrad(dq)
	q.Release()
	k.Release()
	perImage := make([]float32, images)
	d.Download(perImage, losses)
	d.Free(losses)
	var sum float64
	for _, l := range perImage {
		sum += float64(l)
	}
	return sum
}

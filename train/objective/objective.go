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
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// Config chooses the loss.
type Config struct {
	Method        string  // model.PixPro, model.PixContrast or model.Instance
	PositiveRatio float64 // threshold of a positive pair, 0.7 in the paper
	Temperature   float64 // of PixContrast, 0.3 in the paper

	Instance            string  // model.NoInstance, model.BYOL or model.SimCLR
	InstanceWeight      float64 // of the loss of whole images beside a pixel loss
	InstanceTemperature float64 // of model.SimCLR

	Observe bool // compute ProjectionStd
}

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	switch {
	case !(c.PositiveRatio > 0):
		return fmt.Errorf("positive ratio %g: must be above 0", c.PositiveRatio)
	case c.Method == model.PixContrast && !(c.Temperature > 0):
		return fmt.Errorf("temperature %g: must be above 0", c.Temperature)
	case c.Instance != model.NoInstance && !(c.InstanceWeight > 0):
		return fmt.Errorf("weight of the instance loss %g: must be above 0", c.InstanceWeight)
	case c.Instance == model.SimCLR && !(c.InstanceTemperature > 0):
		return fmt.Errorf("temperature of the instance loss %g: must be above 0", c.InstanceTemperature)
	}
	return nil
}

// Result is what a loss found.
type Result struct {
	Loss float64
	// ProjectionStd is the standard deviation of the unit vectors of the key
	// branch's projections over all cells of the batch, averaged over the
	// channels: 0 when all features are the same, at most 1/sqrt(channels), when
	// they spread evenly. 0 where it was not Observed.
	ProjectionStd float64
}

// Loss is share times the mean over the pairs of the loss in both directions: the sum of
// both for PixPro, in [-4, 4], and their mean for PixContrast; that of whole
// images is added with its weight: the sum of both directions for BYOL, their
// mean for SimCLR. It puts its gradient on the queries; tape.Backward then
// computes that of the parameters.
//
// queries and keys are the projections of 2N images, of any length; coords,
// 2N x 4, are the views' coordinates. All but coords are consumed.
func (c *Config) Loss(tape *nn.Tape, queries, keys model.Projections, coords device.Tensor, share float64) Result {
	var total Result
	if queries.Pixels != nil {
		total = c.loss(tape, queries.Pixels, keys.Pixels, share, func(losses, dq, q, k device.Tensor, m device.Matching) {
			m.CoordQ, m.CoordK, m.Threshold = coords, coords, c.PositiveRatio
			if c.Method == model.PixContrast {
				m.Scale /= 2
				tape.Device.PixContrastLoss(losses, dq, q, k, m, c.Temperature)
			} else {
				tape.Device.PixProLoss(losses, dq, q, k, m)
			}
		})
	}
	if queries.Instance != nil {
		r := c.loss(tape, queries.Instance, keys.Instance, share*c.InstanceWeight, func(losses, dq, q, k device.Tensor, m device.Matching) {
			if c.Instance == model.SimCLR {
				m.Scale /= 2
				tape.Device.InfoNCELoss(losses, dq, q, k, m, c.InstanceTemperature)
			} else {
				tape.Device.SimilarityLoss(losses, dq, q, k, m)
			}
		})
		total.Loss += r.Loss
		if queries.Pixels == nil {
			total.ProjectionStd = r.ProjectionStd
		}
	}
	return total
}

// loss normalises projections, lets compute write each image's loss and the
// queries' gradient, and sums the losses.
func (c *Config) loss(tape *nn.Tape, queries, keys *nn.Var, share float64, compute func(losses, dq, q, k device.Tensor, m device.Matching)) (r Result) {
	d := tape.Device
	q, k := nn.Normalize(tape, queries), nn.Normalize(nn.NewTape(d, nn.Keys, tape.Groups), keys)
	images := q.Value.Shape[0]
	losses, dq := d.Alloc(images), d.Alloc(q.Value.Shape...)
	compute(losses, dq, q.Value, k.Value, device.Matching{KeyShift: images / 2, Scale: 2 * share / float64(images)})
	if c.Observe {
		r.ProjectionStd = meanStd(d, k.Value)
	}
	q.AddGrad(dq)
	q.Release()
	k.Release()
	perImage := make([]float32, images)
	d.Download(perImage, losses)
	d.Free(losses)
	for _, l := range perImage {
		r.Loss += float64(l)
	}
	return r
}

// meanStd is the mean over the channels of the standard deviation over the rows.
func meanStd(d device.Device, t device.Tensor) float64 {
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

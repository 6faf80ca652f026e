package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
)

// Update implements device.Device.
func (d *Device) Update(p, buffer, g device.Tensor, u device.Update) {
	ps, bs, gs := floats(p), floats(buffer), floats(g)
	mustBe(len(ps) == len(gs) && len(ps) == len(bs), "update of %v by %v", p.Shape, g.Shape)
	decay, scale := u.WeightDecay, 1.0
	if u.Adapt {
		sums := d.chunked(len(ps), 1, 2, func(_ int, partial []float64, from, to int) {
			var lengths [2][sumLanes]float64
			squareLengths(&lengths, ps[from:to], gs[from:to], decay)
			for i, l := range lengths {
				for _, v := range l {
					partial[i] += v
				}
			}
		})
		if pn, gn := math.Sqrt(sums[0]), math.Sqrt(sums[1]); pn > 0 && gn > 0 {
			scale = u.Trust * pn / (gn + u.Epsilon)
		}
	}
	gradScale, weightScale := float32(scale), float32(scale*decay)
	momentum, rate := float32(u.Momentum), float32(u.LearningRate)
	d.spans(len(ps), func(from, to int) {
		updateRow(ps[from:to], bs[from:to], gs[from:to], momentum, gradScale, weightScale, rate)
	})
}

// MovingAverage implements device.Device.
func (d *Device) MovingAverage(key, query device.Tensor, momentum float64) {
	ks, qs := floats(key), floats(query)
	mustBe(len(ks) == len(qs), "moving average of %v and %v", key.Shape, query.Shape)
	keep, take := float32(momentum), float32(1-momentum)
	d.spans(len(ks), func(from, to int) { averageRow(ks[from:to], qs[from:to], keep, take) })
}

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
		sums := d.chunked(len(ps), 1, 2, func(partial []float64, from, to int) {
			var pp, gg float64
			for i, w := range ps[from:to] {
				grad := float64(gs[from+i]) + decay*float64(w)
				pp += float64(w) * float64(w)
				gg += grad * grad
			}
			partial[0], partial[1] = pp, gg
		})
		if pn, gn := math.Sqrt(sums[0]), math.Sqrt(sums[1]); pn > 0 && gn > 0 {
			scale = u.Trust * pn / (gn + u.Epsilon)
		}
	}
	gradScale, weightScale := float32(scale), float32(scale*decay)
	momentum, rate := float32(u.Momentum), float32(u.LearningRate)
	d.spans(len(ps), func(from, to int) {
		p, b, g := ps[from:to], bs[from:to], gs[from:to]
		b, g = b[:len(p)], g[:len(p)]
		for i := range p {
			v := momentum*b[i] + gradScale*g[i] + weightScale*p[i]
			b[i] = v
			p[i] -= rate * v
		}
	})
}

// MovingAverage implements device.Device.
func (d *Device) MovingAverage(key, query device.Tensor, momentum float64) {
	ks, qs := floats(key), floats(query)
	mustBe(len(ks) == len(qs), "moving average of %v and %v", key.Shape, query.Shape)
	keep, take := float32(momentum), float32(1-momentum)
	d.spans(len(ks), func(from, to int) {
		k, q := ks[from:to], qs[from:to]
		q = q[:len(k)]
		for i := range k {
			k[i] = keep*k[i] + take*q[i]
		}
	})
}

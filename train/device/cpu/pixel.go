package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// similarity is max(cosine, clamp)^gamma, the base raised by 1e-6 where gamma
// < 1, and its derivative by the cosine.
func similarity(cosine float32, p device.Propagation) (value, slope float64) {
	base := float64(cosine)
	passes := base >= p.Clamp
	base = max(base, p.Clamp)
	if p.Gamma < 1 {
		base += 1e-6
	}
	switch p.Gamma {
	case 1:
		value, slope = base, 1
	case 2:
		value, slope = base*base, 2*base
	default:
		value = math.Pow(base, p.Gamma)
		slope = p.Gamma * math.Pow(base, p.Gamma-1)
	}
	if !passes {
		slope = 0
	}
	return value, slope
}

// maps are the N x HW x C feature maps of the pixel operations.
type maps struct{ images, cells, channels int }

func newMaps(t device.Tensor) maps {
	return maps{t.Shape[0], t.Shape[1] * t.Shape[2], t.Shape[3]}
}

// image is the HW x C map of image i in t.
func (m maps) image(t device.Tensor, i int) []float32 {
	n := m.cells * m.channels
	return floats(t)[i*n : (i+1)*n]
}

// times computes c = a b (a is HW x HW, b and c are HW x C), or a' b.
func (m maps) times(c, a, b []float32, transposed bool, accumulate bool) {
	gemm.Mul(transposed, false, m.cells, m.channels, m.cells, a, m.cells, b, m.channels, accumulate, c, m.channels)
}

// products computes c = a b' of two HW x C maps: HW x HW.
func (m maps) products(c, a, b []float32) {
	gemm.Mul(false, true, m.cells, m.cells, m.channels, a, m.channels, b, m.channels, false, c, m.cells)
}

// Propagate implements device.Device.
func (d *Device) Propagate(y, cosines, u, g device.Tensor, p device.Propagation) {
	if isHalf(y) || isHalf(g) {
		d.converted(func(c *conversion) { d.Propagate(c.out(y), cosines, u, c.in(g), p) })
		return
	}
	m := newMaps(u)
	hw := m.cells * m.cells
	mustBe(cosines.Len() == m.images*hw && y.Len() == u.Len() && g.Len() == u.Len(), "propagation of %v to %v", u.Shape, y.Shape)
	cs := floats(cosines)
	parallel.ForWorker(m.images, d.threads, func(thread, i int) {
		cos := cs[i*hw : (i+1)*hw]
		m.products(cos, m.image(u, i), m.image(u, i))
		s := d.threadScratch(thread, hw)
		for j, c := range cos {
			v, _ := similarity(c, p)
			s[j] = float32(v)
		}
		m.times(m.image(y, i), s, m.image(g, i), false, false)
	})
}

// PropagateBackward implements device.Device. With s the similarities of an
// image's cells and c their cosines: dg = s' dy, dc = (dy g') ds/dc, and u
// stands on both sides of c = u u', so du = (dc + dc') u.
func (d *Device) PropagateBackward(du, dg, dy, cosines, u, g device.Tensor, p device.Propagation) {
	if isHalf(dy) || isHalf(dg) {
		d.converted(func(c *conversion) { d.PropagateBackward(du, c.out(dg), c.in(dy), cosines, u, c.in(g), p) })
		return
	}
	m := newMaps(u)
	hw := m.cells * m.cells
	cs := floats(cosines)
	parallel.ForWorker(m.images, d.threads, func(thread, i int) {
		cos := cs[i*hw : (i+1)*hw]
		scratch := d.threadScratch(thread, 2*hw)
		s, dc := scratch[:hw], scratch[hw:]
		m.products(dc, m.image(dy, i), m.image(g, i))
		for j, c := range cos {
			value, slope := similarity(c, p)
			s[j] = float32(value)
			dc[j] = float32(float64(dc[j]) * slope)
		}
		m.times(m.image(dg, i), s, m.image(dy, i), true, false)
		m.times(m.image(du, i), dc, m.image(u, i), false, false)
		m.times(m.image(du, i), dc, m.image(u, i), true, true)
	})
}

// pixelLoss runs a loss over all images: pair gets the cosines of an image's
// query cells (rows) with its key cells, which it replaces by the gradient,
// the mask of positives and their number, and returns the loss.
func (d *Device) pixelLoss(losses, dq, q, k device.Tensor, match device.Matching, pair func(cos []float32, mask []bool, positives int) float64) {
	m := newMaps(q)
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == m.images && match.CoordQ.Len() == 4*m.images && match.CoordK.Len() == 4*m.images,
		"loss of queries %v and keys %v", q.Shape, k.Shape)
	hw := m.cells * m.cells
	coordQ, coordK := floats(match.CoordQ), floats(match.CoordK)
	masks := make([][]bool, d.threads)
	parallel.ForWorker(m.images, d.threads, func(thread, i int) {
		if masks[thread] == nil {
			masks[thread] = make([]bool, hw)
		}
		mask := masks[thread]
		other := (i + match.KeyShift) % m.images
		count := cells.Positive(mask, [4]float32(coordQ[i*4:]), [4]float32(coordK[other*4:]), q.Shape[1], q.Shape[2], match.Threshold)
		cos := d.threadScratch(thread, hw)
		keys := m.image(k, other)
		m.products(cos, m.image(q, i), keys)
		clearUpperBits()
		floats(losses)[i] = float32(pair(cos, mask, count))
		m.times(m.image(dq, i), cos, keys, false, false)
	})
}

// PixProLoss implements device.FusedLosses.
func (d *Device) PixProLoss(losses, dq, q, k device.Tensor, match device.Matching) {
	d.pixelLoss(losses, dq, q, k, match, func(cos []float32, mask []bool, positives int) float64 {
		factor := -2 * match.Scale / (float64(positives) + 1e-6)
		var sum float64
		for j, positive := range mask {
			if !positive {
				cos[j] = 0
				continue
			}
			sum += float64(cos[j])
			cos[j] = float32(factor)
		}
		return factor * sum
	})
}

// PixContrastLoss implements device.FusedLosses. For a query cell with positives P
// among the keys, loss = -log(sum_P e / sum e) with e = exp(cos / tau), and
// its gradient by a cosine is (e / sum e - [in P] e / sum_P e) / tau.
func (d *Device) PixContrastLoss(losses, dq, q, k device.Tensor, match device.Matching, tau float64) {
	n := q.Shape[1] * q.Shape[2]
	d.pixelLoss(losses, dq, q, k, match, func(cos []float32, mask []bool, _ int) float64 {
		with := 0
		for i := range n {
			for _, positive := range mask[i*n : (i+1)*n] {
				if positive {
					with++
					break
				}
			}
		}
		var loss float64
		for i := range n {
			row, positives := cos[i*n:(i+1)*n], mask[i*n:(i+1)*n]
			var inside, all float64
			for j, c := range row {
				e := math.Exp(float64(c) / tau)
				all += e
				if positives[j] {
					inside += e
				}
			}
			if inside == 0 {
				clear(row)
				continue
			}
			loss -= math.Log(inside / all)
			factor := match.Scale / (tau * float64(with))
			for j, c := range row {
				e := math.Exp(float64(c) / tau)
				grad := e / all
				if positives[j] {
					grad -= e / inside
				}
				row[j] = float32(factor * grad)
			}
		}
		if with == 0 {
			return 0
		}
		return match.Scale * loss / float64(with)
	})
}

package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// productRows is how many rows of a large matrix product a goroutine takes at a
// time. It does not change the values: each element is summed by one product.
const productRows = 256

// Multiply implements device.Device. Large products are split by their rows.
func (d *Device) Multiply(c, a, b device.Tensor, p device.Product) {
	p.Check(c, a, b)
	as, bs, cs := floats(a), floats(b), floats(c)
	leadA, leadB := p.K, p.N
	if p.TransposeA {
		leadA = p.M
	}
	if p.TransposeB {
		leadB = p.K
	}
	parts := (p.M + productRows - 1) / productRows
	parallel.For(p.Batch*parts, d.threads, func(i int) {
		batch, first := i/parts, i%parts*productRows
		rows := min(productRows, p.M-first)
		am, bm, cm := as[batch*p.M*p.K:][:p.M*p.K], bs[batch*p.K*p.N:][:p.K*p.N], cs[batch*p.M*p.N:][:p.M*p.N]
		if p.TransposeA {
			am = am[min(first, len(am)):]
		} else {
			am = am[first*p.K:]
		}
		gemm.Mul(p.TransposeA, p.TransposeB, rows, p.N, p.K, am, leadA, bm, leadB, p.Accumulate, cm[first*p.N:], p.N)
	})
}

// Combine implements device.Device.
func (d *Device) Combine(y device.Tensor, alpha float64, a device.Tensor, beta float64, b device.Tensor) {
	mustBe(y.Len() == a.Len() && (!b.Exists() || b.Len() == a.Len()), "combination of %v and %v to %v", a.Shape, b.Shape, y.Shape)
	ys, as, bs := floats(y), floats(a), floats(b)
	p, q := float32(alpha), float32(beta)
	d.spans(len(ys), func(from, to int) {
		for i := from; i < to; i++ {
			v := p * as[i]
			if bs != nil {
				v += float32(q * bs[i])
			}
			ys[i] = v
		}
	})
}

// Copy implements device.Device.
func (d *Device) Copy(dst device.Tensor, to device.Place, src device.Tensor, from device.Place, rows, columns int) {
	to.CheckBlock(dst, rows, columns)
	from.CheckBlock(src, rows, columns)
	if isHalf(dst) || isHalf(src) {
		d.converted(func(c *conversion) { d.Copy(c.changed(dst), to, c.in(src), from, rows, columns) })
		return
	}
	ds, ss, wide, high := floats(dst), floats(src), dst.Channels(), src.Channels()
	d.rows(rows, columns, func(r int) {
		copy(ds[(to.Row+r)*wide+to.Column:][:columns], ss[(from.Row+r)*high+from.Column:][:columns])
	})
}

// rows calls body for every row, some goroutines taking neighbouring ones.
func (d *Device) rows(rows, columns int, body func(r int)) {
	if columns == 0 {
		columns = 1
	}
	d.spans(rows*columns, func(from, to int) {
		// The rows that begin within the span.
		for r := (from + columns - 1) / columns; r*columns < to; r++ {
			body(r)
		}
	})
}

// ReLU implements device.Device.
func (d *Device) ReLU(y, x device.Tensor) {
	if isHalf(x) {
		d.converted(func(c *conversion) { d.ReLU(c.out(y), c.in(x)) })
		return
	}
	mustBe(y.Len() == x.Len(), "ReLU of %v to %v", x.Shape, y.Shape)
	ys, xs := floats(y), floats(x)
	d.spans(len(xs), func(from, to int) {
		for i, v := range xs[from:to] {
			ys[from+i] = max(v, 0)
		}
	})
}

// ReLUBackward implements device.Device.
func (d *Device) ReLUBackward(dx, dy, y device.Tensor) {
	if isHalf(y) {
		d.converted(func(c *conversion) { d.ReLUBackward(c.out(dx), c.in(dy), c.in(y)) })
		return
	}
	mustBe(dx.Len() == y.Len() && dy.Len() == y.Len(), "gradient of ReLU of %v", y.Shape)
	dxs, dys, ys := floats(dx), floats(dy), floats(y)
	d.spans(len(ys), func(from, to int) {
		for i := from; i < to; i++ {
			g := dys[i]
			if ys[i] <= 0 {
				g = 0
			}
			dxs[i] = g
		}
	})
}

// Upsample implements device.Device.
func (d *Device) Upsample(y, x device.Tensor) {
	if isHalf(x) {
		d.converted(func(c *conversion) { d.Upsample(c.out(y), c.in(x)) })
		return
	}
	factor := device.UpsampleFactor(y, x)
	ys, xs, c := floats(y), floats(x), x.Channels()
	height, width := y.Shape[1], y.Shape[2]
	d.rows(y.Rows(), c, func(r int) {
		image, row, column := r/(height*width), r/width%height, r%width
		from := (image*x.Shape[1]+row/factor)*x.Shape[2] + column/factor
		copy(ys[r*c:][:c], xs[from*c:][:c])
	})
}

// UpsampleBackward implements device.Device.
func (d *Device) UpsampleBackward(dx, dy device.Tensor) {
	if isHalf(dx) {
		d.converted(func(c *conversion) { d.UpsampleBackward(c.out(dx), c.in(dy)) })
		return
	}
	factor := device.UpsampleFactor(dy, dx)
	dxs, dys, c := floats(dx), floats(dy), dx.Channels()
	height, width := dx.Shape[1], dx.Shape[2]
	d.rows(dx.Rows(), c, func(r int) {
		image, row, column := r/(height*width), r/width%height, r%width
		out := dxs[r*c:][:c]
		clear(out)
		for i := range factor {
			from := ((image*height+row)*factor+i)*width*factor + column*factor
			for j := range factor {
				addTo(out, dys[(from+j)*c:][:c])
			}
		}
	})
}

// cleanRun is how many exponentials are computed between calls of
// clearUpperBits: what leaves bits behind may interrupt a goroutine at any time.
const cleanRun = 512

// passes says whether a mask lets element i through; nil is an absent mask.
func passes(mask []float32, i int) bool { return mask == nil || mask[i] != 0 }

// checkMask makes sure that an absent mask, or one of x's size, is given.
func checkMask(mask, x device.Tensor) {
	mustBe(!mask.Exists() || mask.Len() == x.Len(), "mask %v of %v", mask.Shape, x.Shape)
}

// exponentials computes the largest of what the mask lets through in a row, over
// tau, and the sum of exp(x/tau - largest); 0 if it lets nothing through.
func exponentials(row, mask []float32, tau float64) (largest, sum float64) {
	most := float32(math.Inf(-1))
	for j, v := range row {
		if v > most && passes(mask, j) {
			most = v
		}
	}
	largest = float64(most) / tau
	for j, v := range row {
		if j%cleanRun == 0 {
			clearUpperBits()
		}
		if passes(mask, j) {
			sum += math.Exp(float64(v)/tau - largest)
		}
	}
	return largest, sum
}

// maskPart is a row of a mask, nil of an absent one.
func maskPart(mask []float32, r, columns int) []float32 {
	if mask == nil {
		return nil
	}
	return mask[r*columns:][:columns]
}

// Softmax implements device.Device.
func (d *Device) Softmax(y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Len(), "softmax of %v to %v", x.Shape, y.Shape)
	ys, xs, ms, c := floats(y), floats(x), floats(mask), x.Channels()
	d.rows(x.Rows(), c, func(r int) {
		row, m, out := xs[r*c:][:c], maskPart(ms, r, c), ys[r*c:][:c]
		largest, sum := exponentials(row, m, tau)
		for j, v := range row {
			if j%cleanRun == 0 {
				clearUpperBits()
			}
			out[j] = 0
			if passes(m, j) {
				out[j] = float32(math.Exp(float64(v)/tau-largest) / sum)
			}
		}
	})
}

// SoftmaxBackward implements device.Device: dx = y (dy - sum dy y) / tau.
func (d *Device) SoftmaxBackward(dx, dy, y device.Tensor, tau float64) {
	mustBe(dx.Len() == y.Len() && dy.Len() == y.Len(), "gradient of softmax of %v", y.Shape)
	dxs, dys, ys, c := floats(dx), floats(dy), floats(y), y.Channels()
	d.rows(y.Rows(), c, func(r int) {
		out, grad, p := dxs[r*c:][:c], dys[r*c:][:c], ys[r*c:][:c]
		var dot float64
		for j, v := range p {
			dot += float64(v) * float64(grad[j])
		}
		for j, v := range p {
			out[j] = float32(float64(v) * (float64(grad[j]) - dot) / tau)
		}
	})
}

// LogSumExp implements device.Device.
func (d *Device) LogSumExp(y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Rows(), "log-sum-exp of %v to %v", x.Shape, y.Shape)
	ys, xs, ms, c := floats(y), floats(x), floats(mask), x.Channels()
	d.rows(len(ys), c, func(r int) {
		largest, sum := exponentials(xs[r*c:][:c], maskPart(ms, r, c), tau)
		ys[r] = float32(largest + math.Log(sum))
	})
}

// LogSumExpBackward implements device.Device: dx = dy exp(x/tau - y) / tau.
func (d *Device) LogSumExpBackward(dx, dy, y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(dx.Len() == x.Len() && dy.Len() == x.Rows() && y.Len() == x.Rows(), "gradient of log-sum-exp of %v", x.Shape)
	dxs, dys, ys, xs, ms, c := floats(dx), floats(dy), floats(y), floats(x), floats(mask), x.Channels()
	d.rows(len(ys), c, func(r int) {
		out, m := dxs[r*c:][:c], maskPart(ms, r, c)
		factor, sum := float64(dys[r])/tau, float64(ys[r])
		for j, v := range xs[r*c:][:c] {
			if j%cleanRun == 0 {
				clearUpperBits()
			}
			out[j] = 0
			if passes(m, j) {
				out[j] = float32(factor * math.Exp(float64(v)/tau-sum))
			}
		}
	})
}

// Mean implements device.Device.
func (d *Device) Mean(y, x, mask device.Tensor) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Rows(), "mean of %v to %v", x.Shape, y.Shape)
	ys, xs, ms, c := floats(y), floats(x), floats(mask), x.Channels()
	d.rows(len(ys), c, func(r int) {
		m := maskPart(ms, r, c)
		var sum, count float64
		for j, v := range xs[r*c:][:c] {
			if passes(m, j) {
				sum += float64(v)
				count++
			}
		}
		ys[r] = float32(sum / max(count, 1))
	})
}

// MeanBackward implements device.Device.
func (d *Device) MeanBackward(dx, dy, mask device.Tensor) {
	checkMask(mask, dx)
	mustBe(dy.Len() == dx.Rows(), "gradient %v of the mean of %v", dy.Shape, dx.Shape)
	dxs, dys, ms, c := floats(dx), floats(dy), floats(mask), dx.Channels()
	d.rows(len(dys), c, func(r int) {
		out, m := dxs[r*c:][:c], maskPart(ms, r, c)
		var count float64
		for j := range out {
			if passes(m, j) {
				count++
			}
		}
		share := float32(float64(dys[r]) / max(count, 1))
		for j := range out {
			out[j] = 0
			if passes(m, j) {
				out[j] = share
			}
		}
	})
}

// ArgMax implements device.Device.
func (d *Device) ArgMax(index, x device.Tensor) {
	mustBe(index.Len() == x.Rows() && x.Channels() <= device.MaxIndex, "places of the largest of %v to %v", x.Shape, index.Shape)
	is, xs, c := floats(index), floats(x), x.Channels()
	d.rows(len(is), c, func(r int) {
		best := 0
		row := xs[r*c:][:c]
		for j, v := range row {
			if v > row[best] {
				best = j
			}
		}
		is[r] = float32(best)
	})
}

// Gather implements device.Device.
func (d *Device) Gather(y, x, index device.Tensor) {
	g := device.NewGathering(y, x, index)
	ys, xs, is := floats(y), floats(x), floats(index)
	d.rows(len(is), g.Columns, func(r int) {
		out := ys[r*g.Columns:][:g.Columns]
		from := int(is[r])
		if float32(from) != is[r] || from < 0 || from >= g.Rows {
			for i := range out {
				out[i] = float32(math.NaN())
			}
			return
		}
		copy(out, xs[(r/g.Count*g.Rows+from)*g.Columns:][:g.Columns])
	})
}

// GatherBackward implements device.Device. A goroutine has tables of its own,
// since several rows may have come from one.
func (d *Device) GatherBackward(dx, dy, index device.Tensor) {
	g := device.NewGathering(dy, dx, index)
	dxs, dys, is := floats(dx), floats(dy), floats(index)
	parallel.For(g.Batch, d.threads, func(batch int) {
		for i := batch * g.Count; i < (batch+1)*g.Count; i++ {
			if to := int(is[i]); float32(to) == is[i] && to >= 0 && to < g.Rows {
				addTo(dxs[(batch*g.Rows+to)*g.Columns:][:g.Columns], dys[i*g.Columns:][:g.Columns])
			}
		}
	})
}

// Positives implements device.Device.
func (d *Device) Positives(mask device.Tensor, rows, cols int, m device.Matching) {
	n, images := rows*cols, m.CoordQ.Len()/4
	mustBe(mask.Len() == images*n*n && m.CoordK.Len() == 4*images, "matches of %d x %d cells to %v", rows, cols, mask.Shape)
	ms, coordQ, coordK := floats(mask), floats(m.CoordQ), floats(m.CoordK)
	parallel.For(images, d.threads, func(i int) {
		out := ms[i*n*n:][:n*n]
		clear(out)
		other := (i + m.KeyShift) % images
		cells.Distances([4]float32(coordQ[i*4:]), [4]float32(coordK[other*4:]), rows, cols, func(a, b int, distance float64) {
			if distance < m.Threshold {
				out[a*n+b] = 1
			}
		})
	})
}

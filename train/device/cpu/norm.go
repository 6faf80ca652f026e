package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// normalizeEpsilon is the least length that a vector is divided by, as in
// PyTorch's normalize.
const normalizeEpsilon = 1e-12

// chunked sums over rows: columns are floats of a row, values of them are
// summed a row. sum adds the values of rows from, ..., to-1 to its partial
// sums. Rows are cut into chunks whose size depends on the shape alone, so
// that the result does not depend on the number of threads. The result is
// valid until the next reduction.
func (d *Device) chunked(rows, columns, values int, sum func(thread int, partial []float64, from, to int)) []float64 {
	chunk := max(1, (1<<15)/columns)
	chunks := max(1, (rows+chunk-1)/chunk)
	partial := d.partialSums(chunks * values)
	parallel.ForWorker(chunks, d.threads, func(thread, i int) {
		sum(thread, partial[i*values:(i+1)*values], i*chunk, min(rows, (i+1)*chunk))
	})
	total := partial[:values]
	for i := 1; i < chunks; i++ {
		for v, x := range partial[i*values : (i+1)*values] {
			total[v] += x
		}
	}
	return total
}

func (d *Device) addColumnSums(dst []float32, src values, rows, columns int) {
	total := d.chunked(rows, columns, columns, func(thread int, partial []float64, from, to int) {
		buffer := d.threadScratch(thread, columns)
		for r := from; r < to; r++ {
			for c, v := range src.load(buffer, r*columns, (r+1)*columns) {
				partial[c] += float64(v)
			}
		}
	})
	for c, v := range total {
		dst[c] += float32(v)
	}
}

// BatchNorm implements device.Device.
func (d *Device) BatchNorm(y, x, residual device.Tensor, b *device.BatchNorm) {
	c := x.Channels()
	rows := x.Rows() / b.Views
	mustBe(x.Rows()%b.Views == 0 && b.SavedMean.Len() == b.Views*c && b.Weight.Len() == c, "batch norm of %v of %d views", x.Shape, b.Views)
	if rows == 0 {
		return
	}
	weight, bias := floats(b.Weight), floats(b.Bias)
	scale, shift := make([]float32, c), make([]float32, c)
	for v := range b.Views {
		from, to := v*rows*c, (v+1)*rows*c
		xs := valuesOf(x).part(from, to)
		sums := d.chunked(rows, c, 2*c, func(thread int, partial []float64, from, to int) {
			if normSums(partial[:c], partial[c:], xs.part(from*c, to*c), c) {
				return
			}
			buffer := d.threadScratch(thread, (to-from)*c)
			sumAndSquares(partial[:c], partial[c:], xs.load(buffer, from*c, to*c))
		})
		mean, invStd := floats(b.SavedMean)[v*c:][:c], floats(b.SavedInvStd)[v*c:][:c]
		runningMean, runningVar := floats(b.RunningMean), floats(b.RunningVar)
		n := float64(rows)
		for i := range c {
			m := sums[i] / n
			variance := max(0, sums[c+i]/n-m*m)
			inv := 1 / math.Sqrt(variance+b.Epsilon)
			mean[i], invStd[i] = float32(m), float32(inv)
			scale[i] = float32(float64(weight[i]) * inv)
			shift[i] = float32(float64(bias[i]) - m*float64(weight[i])*inv)
			unbiased := variance
			if rows > 1 {
				unbiased *= n / (n - 1)
			}
			runningMean[i] += float32(b.RunningMomentum * (m - float64(runningMean[i])))
			runningVar[i] += float32(b.RunningMomentum * (unbiased - float64(runningVar[i])))
		}
		d.scaleShift(valuesOf(y).part(from, to), xs, valuesOf(residual).part(from, to), rows, scale, shift, b.ReLU)
	}
}

// BatchNormInference implements device.Device.
func (d *Device) BatchNormInference(y, x, residual device.Tensor, b *device.BatchNorm) {
	c := x.Channels()
	weight, bias := floats(b.Weight), floats(b.Bias)
	mean, variance := floats(b.RunningMean), floats(b.RunningVar)
	scale, shift := make([]float32, c), make([]float32, c)
	for i := range c {
		inv := 1 / math.Sqrt(float64(variance[i])+b.Epsilon)
		scale[i] = float32(float64(weight[i]) * inv)
		shift[i] = float32(float64(bias[i]) - float64(mean[i])*float64(weight[i])*inv)
	}
	d.scaleShift(valuesOf(y), valuesOf(x), valuesOf(residual), x.Rows(), scale, shift, b.ReLU)
}

// scaleShift computes y = x*scale + shift per channel, plus residual if there is one, then
// ReLU if asked for.
func (d *Device) scaleShift(y, x, residual values, rows int, scale, shift []float32, relu bool) {
	c := len(scale)
	d.blocks(rows, c, func(thread, from, to int) {
		if normApply(y.part(from*c, to*c), x.part(from*c, to*c), residual.part(from*c, to*c), scale, shift, relu) {
			return
		}
		buffer := d.threadScratch(thread, 3*(to-from)*c)
		n := (to - from) * c
		in, out := x.load(buffer[:n], from*c, to*c), y.room(buffer[n:2*n], from*c, to*c)
		var more []float32
		if residual.exist() {
			more = residual.load(buffer[2*n:], from*c, to*c)
		}
		for at := 0; at < n; at += c {
			var r []float32
			if more != nil {
				r = more[at : at+c]
			}
			scaleShiftRow(out[at:at+c], in[at:at+c], r, scale, shift, relu)
		}
		y.store(out, from*c)
	})
}

// blocks calls body for parts of the rows, of about 64 KiB of float32 each.
func (d *Device) blocks(rows, columns int, body func(thread, from, to int)) {
	each := max(1, (1<<14)/columns)
	parallel.ForWorker((rows+each-1)/each, d.threads, func(thread, i int) {
		body(thread, i*each, min(rows, (i+1)*each))
	})
}

// BatchNormBackward implements device.Device. With n rows, xhat the
// normalised input and dy behind the ReLU,
//
//	dbias = sum dy;  dweight = sum dy xhat
//	dx = weight invstd (dy - dbias/n - xhat dweight/n)
func (d *Device) BatchNormBackward(dx, dy, x, y device.Tensor, b *device.BatchNorm) {
	c := x.Channels()
	rows := x.Rows() / b.Views
	if rows == 0 {
		return
	}
	weight, weightGrad, biasGrad := floats(b.Weight), floats(b.WeightGrad), floats(b.BiasGrad)
	k := make([]float32, 3*c) // dx = k0 dy + k1 (x - mean) + k2
	for v := range b.Views {
		from, to := v*rows*c, (v+1)*rows*c
		xs, dys, dxs := valuesOf(x).part(from, to), valuesOf(dy).part(from, to), valuesOf(dx).part(from, to)
		mean, invStd := floats(b.SavedMean)[v*c:][:c], floats(b.SavedInvStd)[v*c:][:c]
		var ys values
		if b.ReLU {
			ys = valuesOf(y).part(from, to)
		}
		sums := d.chunked(rows, c, 2*c, func(thread int, partial []float64, from, to int) {
			if normBackwardSums(partial[:c], partial[c:], dys.part(from*c, to*c), xs.part(from*c, to*c), ys.part(from*c, to*c), mean) {
				return
			}
			buffer := d.threadScratch(thread, 3*c)
			for at := from * c; at < to*c; at += c {
				grad := dys.load(buffer[:c], at, at+c)
				if ys.exist() {
					maskRow(grad, ys.load(buffer[c:2*c], at, at+c))
					dys.store(grad, at)
				}
				sumGradRow(partial[:c], partial[c:], grad, xs.load(buffer[2*c:], at, at+c), mean)
			}
		})
		n := float64(rows)
		for i := range c {
			inv := float64(invStd[i])
			sum, sumHat := sums[i], sums[c+i]*inv
			biasGrad[i] += float32(sum)
			weightGrad[i] += float32(sumHat)
			w := float64(weight[i]) * inv
			k[i] = float32(w)
			k[c+i] = float32(-w * inv * sumHat / n)
			k[2*c+i] = float32(-w * sum / n)
		}
		d.blocks(rows, c, func(thread, from, to int) {
			if normBackward(dxs.part(from*c, to*c), dys.part(from*c, to*c), xs.part(from*c, to*c), mean, k[:c], k[c:2*c], k[2*c:]) {
				return
			}
			n := (to - from) * c
			buffer := d.threadScratch(thread, 3*n)
			grad, in, out := dys.load(buffer[:n], from*c, to*c), xs.load(buffer[n:2*n], from*c, to*c), dxs.room(buffer[2*n:], from*c, to*c)
			for at := 0; at < n; at += c {
				combineRow(out[at:at+c], grad[at:at+c], in[at:at+c], mean, k[:c], k[c:2*c], k[2*c:])
			}
			dxs.store(out, from*c)
		})
	}
}

// Normalize implements device.Device.
func (d *Device) Normalize(y, norms, x device.Tensor) {
	if isHalf(x) {
		d.converted(func(c *conversion) { d.Normalize(y, norms, c.in(x)) })
		return
	}
	c := x.Channels()
	xs, ys, ns := floats(x), floats(y), floats(norms)
	mustBe(len(ns) == x.Rows() && len(ys) == len(xs), "lengths %v of rows of %v", norms.Shape, x.Shape)
	d.spans(len(ns), func(from, to int) {
		for r := from; r < to; r++ {
			row := xs[r*c:][:c]
			var sum float64
			for _, v := range row {
				sum += float64(v) * float64(v)
			}
			norm := math.Sqrt(sum)
			ns[r] = float32(norm)
			inv := 1 / max(norm, normalizeEpsilon)
			out := ys[r*c:][:c]
			for i, v := range row {
				out[i] = float32(float64(v) * inv)
			}
		}
	})
}

// NormalizeBackward implements device.Device: dx = (dy - y (y . dy)) / |x|, or
// dy / epsilon below it, where y is linear in x.
func (d *Device) NormalizeBackward(dx, dy, y, norms device.Tensor) {
	if isHalf(dx) {
		d.converted(func(c *conversion) { d.NormalizeBackward(c.out(dx), dy, y, norms) })
		return
	}
	c := y.Channels()
	ys, dys, dxs, ns := floats(y), floats(dy), floats(dx), floats(norms)
	d.spans(len(ns), func(from, to int) {
		for r := from; r < to; r++ {
			unit, grad, out := ys[r*c:][:c], dys[r*c:][:c], dxs[r*c:][:c]
			var dot float64
			if ns[r] > normalizeEpsilon {
				for i, v := range unit {
					dot += float64(v) * float64(grad[i])
				}
			}
			inv := 1 / max(float64(ns[r]), normalizeEpsilon)
			for i, v := range unit {
				out[i] = float32((float64(grad[i]) - float64(v)*dot) * inv)
			}
		}
	})
}

//go:build cuda

package cuda

import (
	"github.com/seed-436d2970/pixpro/train/device"
)

// longRow is the number of columns from which a block takes a row, not a warp.
const longRow = 1024

// launchRows launches the form of a kernel that suits rows of so many columns.
func (d *Device) launchRows(kernel string, rows, columns int, bytes int64, args ...any) {
	if columns >= longRow {
		d.launch(kernel+"_block", [3]int{rows, 1, 1}, [2]int{threads, 1}, bytes, args...)
	} else {
		d.launchWarps(kernel+"_warp", rows, bytes, args...)
	}
}

// checkFloats makes sure that tensors are float32.
func checkFloats(tensors ...device.Tensor) {
	for _, t := range tensors {
		mustBe(!isHalf(t), "%v is an activation", t.Shape)
	}
}

// checkMask makes sure that an absent mask, or one of x's size, is given.
func checkMask(mask, x device.Tensor) {
	mustBe(!mask.Exists() || mask.Len() == x.Len(), "mask %v of %v", mask.Shape, x.Shape)
	checkFloats(mask, x)
}

// mostProducts is how many matrices a call of cuBLAS gets: a launch may have so
// many blocks along its third dimension.
const mostProducts = 1<<16 - 1

// Multiply implements device.Device.
func (d *Device) Multiply(c, a, b device.Tensor, p device.Product) {
	p.Check(c, a, b)
	checkFloats(c, a, b)
	if p.K == 0 && !p.Accumulate {
		d.Zero(c)
		return
	}
	leadA, leadB := p.K, p.N
	if p.TransposeA {
		leadA = p.M
	}
	if p.TransposeB {
		leadB = p.K
	}
	for from := 0; from < p.Batch; from += mostProducts {
		d.gemm("gemm products", p.TransposeA, p.TransposeB, p.M, p.N, p.K,
			matrix(a, from*p.M*p.K, leadA, p.M*p.K), matrix(b, from*p.K*p.N, leadB, p.K*p.N), p.Accumulate,
			matrix(c, from*p.M*p.N, p.N, p.M*p.N), min(mostProducts, p.Batch-from))
	}
}

// Combine implements device.Device.
func (d *Device) Combine(y device.Tensor, alpha float64, a device.Tensor, beta float64, b device.Tensor) {
	mustBe(y.Len() == a.Len() && (!b.Exists() || b.Len() == a.Len()), "combination of %v and %v to %v", a.Shape, b.Shape, y.Shape)
	checkFloats(y, a, b)
	d.launchFlat("combine", y.Len(), size(y)+size(a)+size(b), y, float32(alpha), a, float32(beta), b, y.Len())
}

// Copy implements device.Device.
func (d *Device) Copy(dst device.Tensor, to device.Place, src device.Tensor, from device.Place, rows, columns int) {
	to.CheckBlock(dst, rows, columns)
	from.CheckBlock(src, rows, columns)
	mustBe(isHalf(dst) == isHalf(src), "copy of %v to another kind of tensor, %v", src.Shape, dst.Shape)
	kernel := "copy_floats"
	if isHalf(dst) {
		kernel = "copy_activations"
	}
	wide, high := dst.Channels(), src.Channels()
	target := matrix(dst, to.Row*wide+to.Column, 0, 0).Pointer
	source := matrix(src, from.Row*high+from.Column, 0, 0).Pointer
	n := rows * columns
	d.launchFlat(kernel, n, 2*int64(n)*elementSize(isHalf(dst)), target, wide, source, high, n, columns)
}

// ReLU implements device.Device.
func (d *Device) ReLU(y, x device.Tensor) {
	mustBe(y.Len() == x.Len(), "ReLU of %v to %v", x.Shape, y.Shape)
	kernel, width := vector("relu", x.Len())
	d.launchFlat(kernel, x.Len()/width, size(x)+size(y), y, x, x.Len())
}

// ReLUBackward implements device.Device.
func (d *Device) ReLUBackward(dx, dy, y device.Tensor) {
	mustBe(dx.Len() == y.Len() && dy.Len() == y.Len(), "gradient of ReLU of %v", y.Shape)
	kernel, width := vector("relu_backward", y.Len())
	d.launchFlat(kernel, y.Len()/width, size(dx)+size(dy)+size(y), dx, dy, y, y.Len())
}

// Upsample implements device.Device.
func (d *Device) Upsample(y, x device.Tensor) {
	factor := device.UpsampleFactor(y, x)
	kernel, width := vector("upsample", x.Channels())
	d.launchFlat(kernel, y.Len()/width, size(x)+size(y), y, x, y.Len(), x.Shape[1], x.Shape[2], x.Channels(), factor)
}

// UpsampleBackward implements device.Device.
func (d *Device) UpsampleBackward(dx, dy device.Tensor) {
	factor := device.UpsampleFactor(dy, dx)
	kernel, width := vector("upsample_backward", dx.Channels())
	d.launchFlat(kernel, dx.Len()/width, size(dx)+size(dy), dx, dy, dx.Len(), dx.Shape[2], dx.Channels(), factor)
}

// Softmax implements device.Device.
func (d *Device) Softmax(y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Len(), "softmax of %v to %v", x.Shape, y.Shape)
	d.launchRows("softmax", x.Rows(), x.Channels(), 3*(size(x)+size(mask))+size(y), y, x, mask, x.Rows(), x.Channels(), tau)
}

// SoftmaxBackward implements device.Device.
func (d *Device) SoftmaxBackward(dx, dy, y device.Tensor, tau float64) {
	mustBe(dx.Len() == y.Len() && dy.Len() == y.Len(), "gradient of softmax of %v", y.Shape)
	d.launchRows("softmax_backward", y.Rows(), y.Channels(), size(dx)+2*(size(dy)+size(y)), dx, dy, y, y.Rows(), y.Channels(), tau)
}

// LogSumExp implements device.Device.
func (d *Device) LogSumExp(y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Rows(), "log-sum-exp of %v to %v", x.Shape, y.Shape)
	d.launchRows("log_sum_exp", x.Rows(), x.Channels(), 2*(size(x)+size(mask)), y, x, mask, x.Rows(), x.Channels(), tau)
}

// LogSumExpBackward implements device.Device.
func (d *Device) LogSumExpBackward(dx, dy, y, x, mask device.Tensor, tau float64) {
	checkMask(mask, x)
	mustBe(dx.Len() == x.Len() && dy.Len() == x.Rows() && y.Len() == x.Rows(), "gradient of log-sum-exp of %v", x.Shape)
	d.launchFlat("log_sum_exp_backward", x.Len(), size(dx)+size(x)+size(mask), dx, dy, y, x, mask, x.Len(), x.Channels(), tau)
}

// Mean implements device.Device.
func (d *Device) Mean(y, x, mask device.Tensor) {
	checkMask(mask, x)
	mustBe(y.Len() == x.Rows(), "mean of %v to %v", x.Shape, y.Shape)
	d.launchRows("mean", x.Rows(), x.Channels(), size(x)+size(mask), y, x, mask, x.Rows(), x.Channels())
}

// MeanBackward implements device.Device.
func (d *Device) MeanBackward(dx, dy, mask device.Tensor) {
	checkMask(mask, dx)
	mustBe(dy.Len() == dx.Rows(), "gradient %v of the mean of %v", dy.Shape, dx.Shape)
	d.launchRows("mean_backward", dx.Rows(), dx.Channels(), size(dx)+2*size(mask), dx, dy, mask, dx.Rows(), dx.Channels())
}

// ArgMax implements device.Device.
func (d *Device) ArgMax(index, x device.Tensor) {
	mustBe(index.Len() == x.Rows() && x.Channels() <= device.MaxIndex, "places of the largest of %v to %v", x.Shape, index.Shape)
	checkFloats(index, x)
	d.launchRows("arg_max", x.Rows(), x.Channels(), 2*size(x), index, x, x.Rows(), x.Channels())
}

// Gather implements device.Device.
func (d *Device) Gather(y, x, index device.Tensor) {
	g := device.NewGathering(y, x, index)
	checkFloats(y, x, index)
	d.launchFlat("gather_rows", y.Len(), 2*size(y), y, x, index, y.Len(), g.Count, g.Rows, g.Columns)
}

// GatherBackward implements device.Device: each row of a table looks for those
// that were taken from it, so that sums have an order.
func (d *Device) GatherBackward(dx, dy, index device.Tensor) {
	g := device.NewGathering(dy, dx, index)
	checkFloats(dx, dy, index)
	d.launchFlat("gather_rows_backward", dx.Len(), 2*size(dx)+size(dy), dx, dy, index, dx.Len(), g.Count, g.Rows, g.Columns)
}

// Positives implements device.Device.
func (d *Device) Positives(mask device.Tensor, rows, cols int, m device.Matching) {
	n, images := rows*cols, m.CoordQ.Len()/4
	mustBe(mask.Len() == images*n*n && m.CoordK.Len() == 4*images, "matches of %d x %d cells to %v", rows, cols, mask.Shape)
	d.launch("positives", [3]int{images, 1, 1}, [2]int{threads, 1}, size(mask), mask, m.CoordQ, m.CoordK, images, rows, cols, m.KeyShift, m.Threshold)
}

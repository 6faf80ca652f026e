package nn

import (
	"slices"

	"github.com/seed-436d2970/pixpro/train/device"
)

// Rows are those of a tensor as a matrix of its last dimension's columns. A mask
// is a value of x's shape that lets through where it is not 0, and nil one that
// lets everything through; it gets no gradient.

// perRow is the shape of one value for each row of x.
func perRow(x *Var) []int {
	shape := slices.Clone(x.Value.Shape[:len(x.Value.Shape)-1])
	if len(shape) == 0 {
		return []int{1}
	}
	return shape
}

func valueOf(mask *Var) device.Tensor {
	if mask == nil {
		return device.Tensor{}
	}
	return mask.Value
}

// Softmax computes exp(x / tau) over its sum in the row, of what the mask lets
// through; the rest is 0.
func Softmax(t *Tape, x, mask *Var, tau float64) *Var {
	d := t.Device
	y := t.output(d.Alloc(x.Value.Shape...), x)
	d.Softmax(y.Value, x.Value, valueOf(mask), tau)
	x.Release()
	if mask != nil {
		mask.Release()
	}
	return t.finish(y, func(dy device.Tensor) {
		d.SoftmaxBackward(dy, dy, y.Value, tau)
		x.AddGrad(dy)
	}, y.Retain())
}

// LogSumExp computes log sum exp(x / tau) of each row, of what the mask lets
// through: -infinity where that is nothing.
func LogSumExp(t *Tape, x, mask *Var, tau float64) *Var {
	d := t.Device
	y := t.output(d.Alloc(perRow(x)...), x)
	d.LogSumExp(y.Value, x.Value, valueOf(mask), tau)
	return t.finish(y, func(dy device.Tensor) {
		dx := d.Alloc(x.Value.Shape...)
		d.LogSumExpBackward(dx, dy, y.Value, x.Value, valueOf(mask), tau)
		x.AddGrad(dx)
		d.Free(dy)
	}, x, mask, y.Retain())
}

// Mean computes the mean of each row, of what the mask lets through: 0 where
// that is nothing.
func Mean(t *Tape, x, mask *Var) *Var {
	d, shape := t.Device, x.Value.Shape
	y := t.output(d.Alloc(perRow(x)...), x)
	d.Mean(y.Value, x.Value, valueOf(mask))
	x.Release()
	return t.finish(y, func(dy device.Tensor) {
		dx := d.Alloc(shape...)
		d.MeanBackward(dx, dy, valueOf(mask))
		x.AddGrad(dx)
		d.Free(dy)
	}, mask)
}

// ArgMax is the column of the first of each row's largest values. It passes no
// gradient on.
func ArgMax(t *Tape, x *Var) *Var {
	y := t.Input(t.Device.Alloc(perRow(x)...))
	t.Device.ArgMax(y.Value, x.Value)
	x.Release()
	return y
}

// Gather takes rows of tables, B x R x C, by their numbers, B x N: B x N x C.
func Gather(t *Tape, tables, index *Var) *Var {
	d, shape := t.Device, tables.Value.Shape
	y := t.output(d.Alloc(index.Value.Rows(), index.Value.Channels(), tables.Value.Channels()), tables)
	d.Gather(y.Value, tables.Value, index.Value)
	tables.Release()
	return t.finish(y, func(dy device.Tensor) {
		dx := d.Alloc(shape...)
		d.Zero(dx)
		d.GatherBackward(dx, dy, index.Value)
		tables.AddGrad(dx)
		d.Free(dy)
	}, index)
}

// Positives is the mask, N x HW x HW, of the cells, rows x cols of each map,
// that match. Of m it uses all but Scale.
func Positives(t *Tape, images, rows, cols int, m device.Matching) *Var {
	y := t.Input(t.Device.Alloc(images, rows*cols, rows*cols))
	t.Device.Positives(y.Value, rows, cols, m)
	return y
}

package nn

import (
	"fmt"
	"slices"

	"github.com/seed-436d2970/pixpro/train/device"
)

// Values of these operations are tensors of device.Alloc, as Normalize returns
// them, not activations; Reshape takes both.

// Reshape gives x, of which it is another view, a shape of as many elements.
func Reshape(t *Tape, x *Var, shape ...int) *Var {
	y := t.output(x.Value.Reshaped(shape...), x)
	y.base = x
	from := slices.Clone(x.Value.Shape)
	if t.Mode == Train && y.grads {
		t.record(y, func(dy device.Tensor) { x.AddGrad(dy.Reshaped(from...)) })
	}
	return y
}

// Multiply computes a b, or a b' if transposeB is set, for each matrix of a
// batch: a is B x M x K and b B x K x N, or B x N x K.
func Multiply(t *Tape, a, b *Var, transposeB bool) *Var {
	d, as, bs := t.Device, a.Value.Shape, b.Value.Shape
	if len(as) != 3 || len(bs) != 3 {
		panic(fmt.Sprintf("nn: products of %v and %v: each must be a batch of matrices", as, bs))
	}
	p := device.Product{Batch: as[0], M: as[1], K: as[2], N: bs[2], TransposeB: transposeB}
	if transposeB {
		p.N = bs[1]
	}
	y := t.output(d.Alloc(p.Batch, p.M, p.N), a, b)
	d.Multiply(y.Value, a.Value, b.Value, p)
	return t.finish(y, func(dy device.Tensor) {
		if a.grads { // dy b', or dy b
			da := d.Alloc(as...)
			d.Multiply(da, dy, b.Value, device.Product{Batch: p.Batch, M: p.M, K: p.N, N: p.K, TransposeB: !transposeB})
			a.AddGrad(da)
		}
		if b.grads { // a' dy, or dy' a
			db := d.Alloc(bs...)
			if transposeB {
				d.Multiply(db, dy, a.Value, device.Product{Batch: p.Batch, M: p.N, K: p.M, N: p.K, TransposeA: true})
			} else {
				d.Multiply(db, a.Value, dy, device.Product{Batch: p.Batch, M: p.K, K: p.M, N: p.N, TransposeA: true})
			}
			b.AddGrad(db)
		}
		d.Free(dy)
	}, a, b)
}

// RowProducts is the product of each row of a with the same row of b, R x C: R
// values.
func RowProducts(t *Tape, a, b *Var) *Var {
	rows, c := a.Value.Rows(), a.Value.Channels()
	y := Multiply(t, Reshape(t, a, rows, 1, c), Reshape(t, b, rows, 1, c), true)
	return Reshape(t, y, rows)
}

// Combine computes alpha a + beta b; b may be nil.
func Combine(t *Tape, alpha float64, a *Var, beta float64, b *Var) *Var {
	d := t.Device
	inputs, second := []*Var{a}, device.Tensor{}
	if b != nil {
		inputs, second = append(inputs, b), b.Value
	}
	y := t.output(d.Alloc(a.Value.Shape...), inputs...)
	d.Combine(y.Value, alpha, a.Value, beta, second)
	for _, in := range inputs {
		in.Release()
	}
	if t.Mode == Train && y.grads {
		t.record(y, func(dy device.Tensor) {
			for i, in := range inputs {
				if in.grads {
					g := d.Alloc(dy.Shape...)
					d.Combine(g, []float64{alpha, beta}[i], dy, 0, device.Tensor{})
					in.AddGrad(g)
				}
			}
			d.Free(dy)
		})
	}
	return y
}

// Join puts the columns of b behind those of a; both have as many rows.
func Join(t *Tape, a, b *Var) *Var {
	d, rows := t.Device, a.Value.Rows()
	wide, more := a.Value.Channels(), b.Value.Channels()
	y := t.output(d.Alloc(rows, wide+more), a, b)
	d.Copy(y.Value, device.Place{}, a.Value, device.Place{}, rows, wide)
	d.Copy(y.Value, device.Place{Column: wide}, b.Value, device.Place{}, rows, more)
	as, bs := a.Value.Shape, b.Value.Shape
	a.Release()
	b.Release()
	if t.Mode == Train && y.grads {
		t.record(y, func(dy device.Tensor) {
			da, db := d.Alloc(as...), d.Alloc(bs...)
			d.Copy(da, device.Place{}, dy, device.Place{}, rows, wide)
			d.Copy(db, device.Place{}, dy, device.Place{Column: wide}, rows, more)
			a.AddGrad(da)
			b.AddGrad(db)
			d.Free(dy)
		})
	}
	return y
}

// Roll gives image i, of the first dimension, the values of image (i + shift)
// mod N.
func Roll(t *Tape, x *Var, shift int) *Var {
	d, shape := t.Device, x.Value.Shape
	roll := func(from device.Tensor, shift int) device.Tensor {
		n := shape[0]
		size, to := from.Len()/n, d.Alloc(shape...)
		dst, src := to.Reshaped(n, size), from.Reshaped(n, size)
		d.Copy(dst, device.Place{}, src, device.Place{Row: shift}, n-shift, size)
		d.Copy(dst, device.Place{Row: n - shift}, src, device.Place{}, shift, size)
		return to
	}
	if shape[0] == 0 || shift%shape[0] == 0 {
		return x
	}
	shift %= shape[0]
	y := t.output(roll(x.Value, shift), x)
	x.Release()
	if t.Mode == Train && y.grads {
		t.record(y, func(dy device.Tensor) {
			x.AddGrad(roll(dy, shape[0]-shift))
			d.Free(dy)
		})
	}
	return y
}

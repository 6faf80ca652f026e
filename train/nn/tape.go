// Package nn records operations on a device so that gradients can follow.
//
// A Tape runs each operation at once and, if it records, keeps what its
// gradient needs; Backward then goes through the operations in reverse. Layers
// hold Parameters, named and shaped as PyTorch names and shapes them, made by
// a Builder. Losses are composed of operations on products of matrices and on
// rows, or are a device's own where it has them (PixProLoss and its like).
//
// Memory: an operation consumes one reference to each of its inputs, and a
// value's memory is freed when its last reference is gone, forward or
// backward. A value that is used twice is retained once.
package nn

import "github.com/seed-436d2970/pixpro/train/device"

// Var is a value that a tape's operations made.
type Var struct {
	Value device.Tensor
	tape  *Tape
	grad  device.Tensor // absent until the first gradient arrives
	grads bool          // wants a gradient
	refs  int
	base  *Var // whose memory Value is, nil if it is its own
}

// Retain adds a reference, for one more use, and returns v.
func (v *Var) Retain() *Var {
	v.refs++
	return v
}

// Release gives a reference up.
func (v *Var) Release() {
	v.refs--
	if v.refs == 0 {
		if v.base != nil {
			v.base.Release()
		} else {
			v.tape.Device.Free(v.Value)
		}
		v.Value = device.Tensor{}
	}
	if v.refs < 0 {
		panic("nn: a value was released more often than it was retained")
	}
}

// AddGrad adds to v's gradient and takes g's memory over.
func (v *Var) AddGrad(g device.Tensor) {
	if !v.grads {
		v.tape.Device.Free(g)
		return
	}
	if !v.grad.Exists() {
		v.grad = g
		return
	}
	v.tape.Device.Add(v.grad, g)
	v.tape.Device.Free(g)
}

// Mode is what a tape's operations are for.
type Mode int

// The modes.
const (
	Train     Mode = iota // batch statistics, gradients
	Keys                  // batch statistics, no gradients
	Inference             // running statistics, no gradients
)

// Tape runs operations on a device.
type Tape struct {
	Device device.Device
	Mode   Mode
	Views  int // equal parts of the batch with statistics of their own
	steps  []func()
}

// NewTape returns an empty tape for batches of the given number of views.
func NewTape(d device.Device, mode Mode, views int) *Tape {
	return &Tape{Device: d, Mode: mode, Views: views}
}

// Input puts a tensor on the tape, which takes its memory over; it gets no
// gradient.
func (t *Tape) Input(v device.Tensor) *Var {
	return &Var{Value: v, tape: t, refs: 1}
}

// Variable puts a tensor on the tape, which takes its memory over, as a value
// that gets a gradient: see Grad.
func (t *Tape) Variable(v device.Tensor) *Var {
	return &Var{Value: v, tape: t, refs: 1, grads: true}
}

// Grad is the gradient that Backward left on a Variable.
func (v *Var) Grad() device.Tensor { return v.grad }

// output is a new value of an operation on the given inputs. It wants a gradient
// if the tape records and one of them does.
func (t *Tape) output(value device.Tensor, inputs ...*Var) *Var {
	v := &Var{Value: value, tape: t, refs: 1}
	for _, in := range inputs {
		v.grads = v.grads || t.Mode == Train && in.grads
	}
	return v
}

// finish ends an operation whose inputs are consumed when its backward step,
// which reads them, has been taken, or at once where there is none. An input may
// be nil.
func (t *Tape) finish(out *Var, backward func(dy device.Tensor), inputs ...*Var) *Var {
	consume := func() {
		for _, in := range inputs {
			if in != nil {
				in.Release()
			}
		}
	}
	if t.Mode != Train || !out.grads {
		consume()
		return out
	}
	t.record(out, func(dy device.Tensor) {
		backward(dy)
		consume()
	})
	return out
}

// record keeps an operation's backward step, which takes over the gradient of
// the operation's output.
func (t *Tape) record(out *Var, backward func(dy device.Tensor)) {
	t.steps = append(t.steps, func() {
		dy := out.grad
		if !dy.Exists() {
			panic("nn: a recorded operation's output has no gradient: nothing was computed from it")
		}
		out.grad = device.Tensor{}
		backward(dy)
	})
}

// Backward computes the gradients of all parameters that the recorded
// operations used, from gradients given by AddGrad, and empties the tape.
func (t *Tape) Backward() {
	for i := len(t.steps) - 1; i >= 0; i-- {
		t.steps[i]()
		t.steps[i] = nil
	}
	t.steps = t.steps[:0]
}

package nn

import "github.com/seed-436d2970/pixpro/train/device"

// Conv is a square convolution, with a bias or without.
type Conv struct {
	device.Convolution
	Weight, Bias *Parameter // Bias may be nil
	out          int
}

// Conv makes a convolution without bias, initialised as torchvision does a
// ResNet's.
func (b Builder) Conv(name string, in, out int, c device.Convolution) *Conv {
	b = b.In(name)
	fanOut := out * c.Kernel * c.Kernel
	c = c.Explicit()
	weight := b.parameter("weight", []int{out, in / c.Groups, c.Kernel, c.Kernel}, false, normal(b.random("weight"), fanOut))
	return &Conv{Convolution: c, Weight: weight, out: out}
}

// Pointwise makes a 1x1 convolution with bias, initialised as PyTorch does by
// default.
func (b Builder) Pointwise(name string, in, out int) *Conv {
	b = b.In(name)
	return &Conv{
		Convolution: device.Convolution{Kernel: 1, Stride: 1},
		Weight:      b.parameter("weight", []int{out, in, 1, 1}, false, uniform(b.random("weight"), in)),
		Bias:        b.parameter("bias", []int{out}, false, uniform(b.random("bias"), in)),
		out:         out,
	}
}

// Forward convolves x, N x H x W x Cin.
func (c *Conv) Forward(t *Tape, x *Var) *Var {
	d, s := t.Device, x.Value.Shape
	var bias, biasGrad device.Tensor
	if c.Bias != nil {
		bias, biasGrad = c.Bias.Value, c.Bias.Grad
	}
	y := t.output(d.AllocActivation(s[0], c.Output(s[1]), c.Output(s[2]), c.out), x)
	d.Convolve(y.Value, x.Value, c.Weight.Value, bias, c.Convolution)
	if t.Mode != Train {
		x.Release()
		return y
	}
	y.grads = true
	t.record(y, func(dy device.Tensor) {
		d.ConvolveBackwardWeights(c.Weight.Grad, biasGrad, dy, x.Value, c.Convolution)
		if x.grads {
			accumulate := x.grad.Exists()
			if !accumulate {
				x.grad = d.AllocActivation(x.Value.Shape...)
			}
			d.ConvolveBackwardData(x.grad, dy, c.Weight.Value, c.Convolution, accumulate)
		}
		d.Free(dy)
		x.Release()
	})
	return y
}

// BatchNorm is batch normalisation with what follows it in a ResNet: the
// residual and ReLU.
type BatchNorm struct {
	Weight, Bias, RunningMean, RunningVar *Parameter
}

// PyTorch's defaults.
const (
	batchNormEpsilon  = 1e-5
	batchNormMomentum = 0.1
)

// BatchNorm makes a batch normalisation of c channels: weight 1, bias 0.
func (b Builder) BatchNorm(name string, c int) *BatchNorm {
	b = b.In(name)
	return &BatchNorm{
		Weight:      b.parameter("weight", []int{c}, false, constant(1)),
		Bias:        b.parameter("bias", []int{c}, false, constant(0)),
		RunningMean: b.parameter("running_mean", []int{c}, true, constant(0)),
		RunningVar:  b.parameter("running_var", []int{c}, true, constant(1)),
	}
}

// Forward normalises x, adds residual unless it is nil, and applies ReLU if asked to.
func (b *BatchNorm) Forward(t *Tape, x, residual *Var, relu bool) *Var {
	d := t.Device
	inputs := []*Var{x}
	var residualValue device.Tensor
	if residual != nil {
		inputs, residualValue = append(inputs, residual), residual.Value
	}
	y := t.output(d.AllocActivation(x.Value.Shape...), inputs...)
	op := &device.BatchNorm{
		Weight: b.Weight.Value, Bias: b.Bias.Value, WeightGrad: b.Weight.Grad, BiasGrad: b.Bias.Grad,
		RunningMean: b.RunningMean.Value, RunningVar: b.RunningVar.Value,
		Views: t.Views, Epsilon: batchNormEpsilon, RunningMomentum: batchNormMomentum, ReLU: relu, Residual: residual != nil,
	}
	if t.Mode == Inference {
		d.BatchNormInference(y.Value, x.Value, residualValue, op)
	} else {
		c := x.Value.Channels()
		op.SavedMean, op.SavedInvStd = d.Alloc(t.Views, c), d.Alloc(t.Views, c)
		d.BatchNorm(y.Value, x.Value, residualValue, op)
	}
	if residual != nil {
		residual.Release()
	}
	if t.Mode != Train {
		if op.SavedMean.Exists() {
			d.Free(op.SavedMean)
			d.Free(op.SavedInvStd)
		}
		x.Release()
		return y
	}
	y.grads = true
	kept := y
	if relu {
		kept.Retain()
	}
	t.record(y, func(dy device.Tensor) {
		dx := dy
		if residual != nil {
			dx = d.AllocActivation(x.Value.Shape...)
		}
		d.BatchNormBackward(dx, dy, x.Value, kept.Value, op)
		x.AddGrad(dx)
		if residual != nil {
			residual.AddGrad(dy)
		}
		d.Free(op.SavedMean)
		d.Free(op.SavedInvStd)
		x.Release()
		if relu {
			kept.Release()
		}
	})
	return y
}

// MaxPool takes the maximum of each window of x.
func MaxPool(t *Tape, x *Var, c device.Convolution) *Var {
	d, s := t.Device, x.Value.Shape
	y := t.output(d.AllocActivation(s[0], c.Output(s[1]), c.Output(s[2]), s[3]), x)
	d.MaxPool(y.Value, x.Value, c)
	if t.Mode != Train {
		x.Release()
		return y
	}
	y.Retain()
	t.record(y, func(dy device.Tensor) {
		dx := d.AllocActivation(x.Value.Shape...)
		d.MaxPoolBackward(dx, dy, x.Value, y.Value, c)
		x.AddGrad(dx)
		d.Free(dy)
		x.Release()
		y.Release()
	})
	return y
}

// AveragePool takes the mean of each window of x.
func AveragePool(t *Tape, x *Var, c device.Convolution) *Var {
	d, s := t.Device, x.Value.Shape
	y := t.output(d.AllocActivation(s[0], c.Output(s[1]), c.Output(s[2]), s[3]), x)
	d.AveragePool(y.Value, x.Value, c)
	x.Release()
	if t.Mode == Train {
		t.record(y, func(dy device.Tensor) {
			dx := d.AllocActivation(s...)
			d.AveragePoolBackward(dx, dy, c)
			x.AddGrad(dx)
			d.Free(dy)
		})
	}
	return y
}

// ReLU computes max(x, 0).
func ReLU(t *Tape, x *Var) *Var {
	d := t.Device
	y := t.output(d.AllocActivation(x.Value.Shape...), x)
	d.ReLU(y.Value, x.Value)
	x.Release()
	return t.finish(y, func(dy device.Tensor) {
		d.ReLUBackward(dy, dy, y.Value)
		x.AddGrad(dy)
	}, y.Retain())
}

// Upsample makes x, N x H x W x C, factor times as high and as wide by repeating
// its cells.
func Upsample(t *Tape, x *Var, factor int) *Var {
	d, s := t.Device, x.Value.Shape
	y := t.output(d.AllocActivation(s[0], factor*s[1], factor*s[2], s[3]), x)
	d.Upsample(y.Value, x.Value)
	x.Release()
	return t.finish(y, func(dy device.Tensor) {
		dx := d.AllocActivation(s...)
		d.UpsampleBackward(dx, dy)
		x.AddGrad(dx)
		d.Free(dy)
	})
}

// Add computes a + b, activations of one shape.
func Add(t *Tape, a, b *Var) *Var {
	d, rows, columns := t.Device, a.Value.Rows(), a.Value.Channels()
	copied := func(x device.Tensor) device.Tensor {
		y := d.AllocActivation(x.Shape...)
		d.Copy(y, device.Place{}, x, device.Place{}, rows, columns)
		return y
	}
	y := t.output(copied(a.Value), a, b)
	d.Add(y.Value, b.Value)
	a.Release()
	b.Release()
	return t.finish(y, func(dy device.Tensor) {
		if a.grads && b.grads {
			a.AddGrad(copied(dy))
			b.AddGrad(dy)
		} else if a.grads {
			a.AddGrad(dy)
		} else {
			b.AddGrad(dy)
		}
	})
}

// Normalize divides each cell's vector by its length.
func Normalize(t *Tape, x *Var) *Var {
	d := t.Device
	y := t.output(d.Alloc(x.Value.Shape...), x)
	norms := d.Alloc(x.Value.Rows())
	d.Normalize(y.Value, norms, x.Value)
	x.Release()
	if t.Mode != Train {
		d.Free(norms)
		return y
	}
	y.Retain()
	t.record(y, func(dy device.Tensor) {
		dx := d.AllocActivation(y.Value.Shape...)
		d.NormalizeBackward(dx, dy, y.Value, norms)
		x.AddGrad(dx)
		d.Free(dy)
		d.Free(norms)
		y.Release()
	})
	return y
}

// Propagate mixes values, N x H x W x C, by the similarity of the unit vectors:
// see device.Propagation.
func Propagate(t *Tape, units, values *Var, p device.Propagation) *Var {
	d, s := t.Device, units.Value.Shape
	y := t.output(d.AllocActivation(s...), units, values)
	cosines := d.Alloc(s[0], s[1]*s[2], s[1]*s[2])
	d.Propagate(y.Value, cosines, units.Value, values.Value, p)
	if t.Mode != Train {
		d.Free(cosines)
		units.Release()
		values.Release()
		return y
	}
	t.record(y, func(dy device.Tensor) {
		du, dg := d.Alloc(s...), d.Alloc(s...)
		d.PropagateBackward(du, dg, dy, cosines, units.Value, values.Value, p)
		units.AddGrad(du)
		values.AddGrad(dg)
		d.Free(dy)
		d.Free(cosines)
		units.Release()
		values.Release()
	})
	return y
}

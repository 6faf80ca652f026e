package nn

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
)

func read(d device.Device, t device.Tensor) []float32 {
	values := make([]float32, t.Len())
	d.Download(values, t)
	return values
}

// TestGradientsOfAValueUsedTwiceAddUp sends x through a convolution and past
// it, as a residual block does: y = w x + x, normalised.
func TestGradientsOfAValueUsedTwiceAddUp(t *testing.T) {
	d := cpu.New(1)
	var list []*Parameter
	b := Builder{Device: d, Gradients: true, List: &list}
	conv, bn := b.Conv("conv", 2, 2, device.Convolution{Kernel: 1, Stride: 1}), b.BatchNorm("bn", 2)
	xs := []float32{1, -2, 3, 0.5, -1, 2, 0.25, 4}
	dy := []float32{1, 2, -1, 0.5, 3, -2, 0.125, 1}

	forward := func(xs []float32) (*Tape, *Var, *Var) {
		tape := NewTape(d, Train, 1)
		x := d.Alloc(1, 2, 2, 2)
		d.Upload(x, xs)
		in := tape.Variable(x)
		return tape, in, bn.Forward(tape, conv.Forward(tape, in.Retain()), in, true)
	}
	tape, in, out := forward(xs)
	in.Retain() // to read its gradient
	g := d.Alloc(1, 2, 2, 2)
	d.Upload(g, dy)
	out.AddGrad(g)
	tape.Backward()
	got := read(d, in.Grad())

	project := func(xs []float32) float64 {
		_, _, out := forward(xs)
		var sum float64
		for i, y := range read(d, out.Value) {
			sum += float64(y) * float64(dy[i])
		}
		return sum
	}
	const step = 1.0 / 256
	for i := range xs {
		up, down := slices.Clone(xs), slices.Clone(xs)
		up[i] += step
		down[i] -= step
		want := (project(up) - project(down)) / (2 * step)
		if math.Abs(float64(got[i])-want) > 2e-3*max(1, math.Abs(want)) {
			t.Errorf("gradient %d is %g, by differences %g", i, got[i], want)
		}
	}
}

func TestParametersAreReadAsTheyWereLoaded(t *testing.T) {
	d := cpu.New(1)
	var list []*Parameter
	conv := Builder{Device: d, List: &list}.Conv("conv", 3, 2, device.Convolution{Kernel: 3, Stride: 1, Padding: 1})
	values := make([]float32, 2*3*3*3)
	for i := range values {
		values[i] = float32(i)
	}
	if err := conv.Weight.Load(d, values); err != nil {
		t.Fatal(err)
	}
	if got := conv.Weight.Read(d); !slices.Equal(got, values) {
		t.Errorf("parameter is %v, was loaded as %v", got, values)
	}
	// On the device the channels are last: (out 1, in 2, row 0, col 1).
	if got := read(d, conv.Weight.Value)[27+1*3+2]; got != values[27+2*9+1] {
		t.Errorf("the device has %g where %g belongs", got, values[27+2*9+1])
	}
	if err := conv.Weight.Load(d, values[1:]); err == nil {
		t.Error("a parameter of the wrong size was loaded")
	}
}

func TestReleasingTooOftenPanics(t *testing.T) {
	d := cpu.New(1)
	v := NewTape(d, Keys, 1).Input(d.Alloc(1))
	v.Release()
	defer func() {
		if recover() == nil {
			t.Error("a value was released twice without a panic")
		}
	}()
	v.Release()
}

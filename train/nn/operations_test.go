package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
)

// counting counts the tensors that are not free.
type counting struct {
	*cpu.Device
	live int
}

func (d *counting) AllocActivation(shape ...int) device.Tensor { return d.Alloc(shape...) }

func (d *counting) Alloc(shape ...int) device.Tensor {
	d.live++
	return d.Device.Alloc(shape...)
}

func (d *counting) Free(t device.Tensor) {
	d.live--
	d.Device.Free(t)
}

func (d *counting) put(shape []int, values []float32) device.Tensor {
	t := d.Alloc(shape...)
	d.Upload(t, values)
	return t
}

// TestOperations compares each operation's gradients with differences of its
// values, on a tape that records, and makes sure that no memory is left behind,
// also on one that does not.
func TestOperations(t *testing.T) {
	index := []float32{2, 0, 2, 1}
	mask := []float32{1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1}
	for name, c := range map[string]struct {
		shapes  [][]int
		forward func(t *Tape, d *counting, in []*Var) *Var
	}{
		"multiply":          {[][]int{{2, 3, 4}, {2, 4, 5}}, func(t *Tape, _ *counting, in []*Var) *Var { return Multiply(t, in[0], in[1], false) }},
		"multiply, b'":      {[][]int{{2, 3, 4}, {2, 5, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return Multiply(t, in[0], in[1], true) }},
		"products of rows":  {[][]int{{5, 3}, {5, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return RowProducts(t, in[0], in[1]) }},
		"combine":           {[][]int{{5, 3}, {5, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return Combine(t, 2, in[0], -0.5, in[1]) }},
		"combine with none": {[][]int{{5, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return Combine(t, 2, in[0], 0, nil) }},
		"twice the same":    {[][]int{{3, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return Combine(t, 2, in[0].Retain(), 1, in[0]) }},
		"join":              {[][]int{{3, 4}, {3, 1}}, func(t *Tape, _ *counting, in []*Var) *Var { return Join(t, in[0], in[1]) }},
		"roll":              {[][]int{{3, 2, 2}}, func(t *Tape, _ *counting, in []*Var) *Var { return Roll(t, in[0], 4) }},
		"roll by nothing":   {[][]int{{3, 2, 2}}, func(t *Tape, _ *counting, in []*Var) *Var { return Combine(t, 1, Roll(t, in[0], 3), 0, nil) }},
		"reshape":           {[][]int{{3, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return Softmax(t, Reshape(t, in[0], 2, 6), nil, 1) }},
		"softmax":           {[][]int{{3, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return Softmax(t, in[0], nil, 0.7) }},
		"softmax, mask": {[][]int{{3, 4}}, func(t *Tape, d *counting, in []*Var) *Var {
			return Softmax(t, in[0], t.Input(d.put([]int{3, 4}, mask)), 0.7)
		}},
		"log-sum-exp": {[][]int{{3, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return LogSumExp(t, in[0], nil, 0.7) }},
		"log-sum-exp, mask": {[][]int{{3, 4}}, func(t *Tape, d *counting, in []*Var) *Var {
			return LogSumExp(t, in[0], t.Input(d.put([]int{3, 4}, mask)), 0.7)
		}},
		"mean":            {[][]int{{3, 4}}, func(t *Tape, _ *counting, in []*Var) *Var { return Mean(t, in[0], nil) }},
		"mean of one row": {[][]int{{7}}, func(t *Tape, _ *counting, in []*Var) *Var { return Mean(t, in[0], nil) }},
		"mean, mask":      {[][]int{{3, 4}}, func(t *Tape, d *counting, in []*Var) *Var { return Mean(t, in[0], t.Input(d.put([]int{3, 4}, mask))) }},
		"gather": {[][]int{{2, 3, 5}}, func(t *Tape, d *counting, in []*Var) *Var {
			return Gather(t, in[0], t.Input(d.put([]int{2, 2}, index)))
		}},
		"gather by arg-max": {[][]int{{1, 4, 3}}, func(t *Tape, d *counting, in []*Var) *Var {
			return Gather(t, in[0], ArgMax(t, t.Input(d.put([]int{1, 2, 6}, mask))))
		}},
		"ReLU":        {[][]int{{1, 2, 2, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return ReLU(t, in[0]) }},
		"up-sampling": {[][]int{{1, 2, 2, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return Upsample(t, in[0], 2) }},
		"add":         {[][]int{{1, 2, 2, 3}, {1, 2, 2, 3}}, func(t *Tape, _ *counting, in []*Var) *Var { return Add(t, in[0], in[1]) }},
		"add a constant": {[][]int{{2, 3}}, func(t *Tape, d *counting, in []*Var) *Var {
			return Add(t, t.Input(d.put([]int{2, 3}, mask[:6])), in[0])
		}},
		"add to a constant": {[][]int{{2, 2}}, func(t *Tape, d *counting, in []*Var) *Var { return Add(t, in[0], t.Input(d.put([]int{2, 2}, index))) }},
		"multiply constants": {[][]int{{1, 2, 2}}, func(t *Tape, d *counting, in []*Var) *Var {
			return Multiply(t, t.Input(d.put([]int{1, 2, 2}, index)), in[0], false)
		}},
	} {
		t.Run(name, func(t *testing.T) { checkOperation(t, c.shapes, c.forward) })
	}
}

func checkOperation(t *testing.T, shapes [][]int, forward func(t *Tape, d *counting, in []*Var) *Var) {
	rng := rand.New(rand.NewPCG(1, 9))
	random := func(n int) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
		return values
	}
	d := &counting{Device: cpu.New(2)}
	inputs := make([][]float32, len(shapes))
	for i, s := range shapes {
		inputs[i] = random(device.Elements(s))
	}
	// run computes the operation on a tape and frees nothing that it must free.
	run := func(mode Mode) (*Tape, []*Var, *Var) {
		tape := NewTape(d, mode, 1)
		vars := make([]*Var, len(shapes))
		for i, s := range shapes {
			vars[i] = tape.Variable(d.put(s, inputs[i]))
		}
		return tape, vars, forward(tape, d, vars)
	}

	_, _, out := run(Keys)
	n := out.Value.Len()
	out.Release()
	if d.live != 0 {
		t.Errorf("%d tensors are left on a tape that does not record", d.live)
	}

	dy := random(n)
	tape, vars, out := run(Train)
	shape := slices.Clone(out.Value.Shape)
	out.AddGrad(d.put(shape, dy))
	out.Release()
	tape.Backward()
	var grads [][]float32
	for _, v := range vars {
		grads = append(grads, read(d, v.Grad()))
		d.Free(v.Grad())
	}
	if d.live != 0 {
		t.Errorf("%d tensors are left after the backward pass", d.live)
	}

	project := func() float64 {
		_, _, out := run(Keys)
		var sum float64
		for i, y := range read(d, out.Value) {
			sum += float64(y) * float64(dy[i])
		}
		out.Release()
		return sum
	}
	const step = 1.0 / 256
	for k, values := range inputs {
		for i, v := range values {
			values[i] = v + step
			up := project()
			values[i] = v - step
			want := (up - project()) / (2 * step)
			values[i] = v
			if got := float64(grads[k][i]); math.Abs(got-want) > 2e-3*max(1, math.Abs(want)) {
				t.Errorf("gradient %d of input %d is %g, by differences %g", i, k, got, want)
			}
		}
	}
}

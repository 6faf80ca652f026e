// Package devicetest proves a device.Device: every primitive is compared with
// a plain float64 reference, its gradient with central differences of that
// reference, and layers and losses with the golden cases. Losses are computed
// from the primitives and, where the device has them, as operations of its own.
//
//	func TestDevice(t *testing.T) {
//		devicetest.Run(t, func() device.Device { return cpu.New(2) })
//	}
package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
)

// tolerance is how far a float32 tensor may be from the float64 reference,
// relative to its length.
const tolerance = 1e-5

// Run tests the devices that open returns; each is closed again.
func Run(t *testing.T, open func() device.Device) { RunWithin(t, tolerance, 24, open) }

// RunWithin is Run for devices that compute with fewer bits: results may be off
// by the tolerance, and inputs have only the given number of significant bits,
// so that the device need not round them. Golden cases, whose inputs have all
// bits, are left out.
func RunWithin(t *testing.T, tolerance float64, significant int, open func() device.Device) {
	for _, c := range []struct {
		name string
		test func(*harness)
	}{
		{"upload views", testUploadViews},
		{"convolution", testConvolution},
		{"batch norm", testBatchNorm},
		{"large batch norm", testLargeBatchNorm},
		{"max pool", testMaxPool},
		{"average pool", testAveragePool},
		{"normalize", testNormalize},
		{"propagation", testPropagation},
		{"products of matrices", testMultiply},
		{"combination", testCombine},
		{"copy", testCopy},
		{"ReLU", testReLU},
		{"up-sampling", testUpsample},
		{"softmax", testSoftmax},
		{"log-sum-exp", testLogSumExp},
		{"mean", testMean},
		{"arg-max", testArgMax},
		{"gather", testGather},
		{"positives", testPositives},
		{"pixel losses", testPixelLosses},
		{"instance losses", testInstanceLosses},
		{"updates", testUpdates},
		{"updates of many tensors", testManyUpdates},
		{"memory", testMemory},
		{"empty batch", testEmptyBatch},
		{"golden layers", testGoldenLayers},
		{"golden losses", testGoldenLosses},
		{"golden propagation", testGoldenPropagation},
	} {
		if significant < 24 && strings.HasPrefix(c.name, "golden") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			h := &harness{T: t, d: open(), rng: rand.New(rand.NewPCG(1, 2)), tolerance: tolerance, significant: significant}
			c.test(h)
			if err := h.d.Sync(); err != nil {
				t.Errorf("the device failed: %v", err)
			}
			if err := h.d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

type harness struct {
	*testing.T
	d           device.Device
	rng         *rand.Rand
	tolerance   float64
	significant int // bits of inputs
}

// round rounds to the significant bits of inputs.
func (h *harness) round(v float64) float64 {
	fraction, exponent := math.Frexp(v)
	scale := math.Ldexp(1, h.significant)
	return math.Ldexp(math.RoundToEven(fraction*scale)/scale, exponent)
}

// random is an array of normal values that the device holds exactly.
func (h *harness) random(shape ...int) array {
	a := newArray(shape...)
	for i := range a.data {
		a.data[i] = h.round(h.rng.NormFloat64())
	}
	return a
}

// distinct is random without equal values.
func (h *harness) distinct(shape ...int) array {
	a, seen := h.random(shape...), map[float64]bool{}
	for i := range a.data {
		for seen[a.data[i]] {
			a.data[i] = h.round(h.rng.NormFloat64())
		}
		seen[a.data[i]] = true
	}
	return a
}

// crops are n crops' coordinates, some flipped, that mostly overlap.
func (h *harness) crops(n int) array {
	a := newArray(n, 4)
	for i := range n {
		x, y := h.rng.Float64()*0.4, h.rng.Float64()*0.4
		c := []float64{x, y, x + 0.2 + 0.4*h.rng.Float64(), y + 0.2 + 0.4*h.rng.Float64()}
		if h.rng.IntN(2) == 0 {
			c[0], c[2] = c[2], c[0]
		}
		for j, v := range c {
			a.data[4*i+j] = float64(float32(v))
		}
	}
	return a
}

// put uploads an array; the zero array gives the zero tensor.
func (h *harness) put(a array) device.Tensor {
	if a.data == nil {
		return device.Tensor{}
	}
	return h.upload(h.d.Alloc(a.shape...), a)
}

// activation is put for the values between layers.
func (h *harness) activation(a array) device.Tensor {
	if a.data == nil {
		return device.Tensor{}
	}
	return h.upload(h.d.AllocActivation(a.shape...), a)
}

func (h *harness) upload(t device.Tensor, a array) device.Tensor {
	values := make([]float32, len(a.data))
	for i, v := range a.data {
		values[i] = float32(v)
	}
	h.d.Upload(t, values)
	return t
}

// garbage is a tensor whose content must not matter.
func (h *harness) garbage(shape ...int) device.Tensor { return h.put(constant(1e30, shape)) }

// output is garbage for the values between layers.
func (h *harness) output(shape ...int) device.Tensor { return h.activation(constant(1e30, shape)) }

func constant(v float64, shape []int) array {
	a := newArray(shape...)
	for i := range a.data {
		a.data[i] = v
	}
	return a
}

// zeros is a tensor of zeros.
func (h *harness) zeros(shape ...int) device.Tensor { return h.put(newArray(shape...)) }

func (h *harness) get(t device.Tensor) []float32 {
	values := make([]float32, t.Len())
	h.d.Download(values, t)
	return values
}

// equal compares a tensor with a reference by the length of the difference.
func (h *harness) equal(what string, got device.Tensor, want array) {
	h.Helper()
	values := h.get(got)
	if len(values) != len(want.data) {
		h.Fatalf("%s has %d elements, want %d", what, len(values), len(want.data))
	}
	diff := make([]float64, len(values))
	for i, v := range values {
		diff[i] = float64(v) - want.data[i]
	}
	off, size := length(diff), length(want.data)
	if !(off <= h.tolerance*max(size, 1e-3)) {
		h.Errorf("%s is off by %.2g of its length %.3g", what, off/max(size, 1e-3), size)
	}
}

// plus is a + b, what a gradient that is added to must become.
func plus(a, b array) array {
	sum := newArray(a.shape...)
	for i := range sum.data {
		sum.data[i] = a.data[i] + b.data[i]
	}
	return sum
}

func testUploadViews(h *harness) {
	mean, std := [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
	const n, rows, cols = 3, 5, 4
	want := newArray(2*n, rows, cols, 3)
	var views [2][]uint8
	for i := range 2 * n {
		for c := range 3 {
			for p := range rows * cols {
				pixel := uint8(h.rng.IntN(256))
				views[i/n] = append(views[i/n], pixel)
				want.data[want.at(i, p/cols, p%cols, c)] = (float64(pixel)/255 - mean[c]) / std[c]
			}
		}
	}
	got := h.output(2*n, rows, cols, 3)
	h.d.UploadViews(got, views, mean, std)
	h.equal("views", got, want)
}

func testConvolution(h *harness) {
	for _, c := range []struct {
		n, rows, cols, in, out int
		device.Convolution
		bias bool
	}{
		{2, 7, 9, 3, 5, device.Convolution{Kernel: 7, Stride: 2, Padding: 3}, false},
		{1, 5, 4, 7, 6, device.Convolution{Kernel: 3, Stride: 1, Padding: 1}, true},
		{3, 5, 6, 4, 9, device.Convolution{Kernel: 3, Stride: 2, Padding: 1}, false},
		{2, 3, 5, 8, 3, device.Convolution{Kernel: 1, Stride: 1}, true},
		{2, 5, 7, 3, 4, device.Convolution{Kernel: 1, Stride: 2}, false},
		{1, 1, 1, 5, 2, device.Convolution{Kernel: 3, Stride: 1, Padding: 1}, false},
		{2, 4, 5, 16, 6, device.Convolution{Kernel: 3, Stride: 1, Padding: 1}, false},
		{1, 5, 7, 32, 6, device.Convolution{Kernel: 3, Stride: 2, Padding: 1, Groups: 2}, true},
		{2, 6, 5, 4, 6, device.Convolution{Kernel: 3, Stride: 1, Padding: 2, Dilation: 2}, false},
		{2, 5, 6, 6, 9, device.Convolution{Kernel: 3, Stride: 2, Padding: 1, Groups: 3}, true},
		{1, 4, 3, 8, 4, device.Convolution{Kernel: 1, Stride: 1, Groups: 2}, false},
		{1, 20, 20, 2, 3, device.Convolution{Kernel: 3, Stride: 1, Padding: 1}, true},
	} {
		c.Convolution = c.Explicit()
		x, w := h.random(c.n, c.rows, c.cols, c.in), h.random(c.out, c.Kernel, c.Kernel, c.in/c.Groups)
		var bias array
		var dbias device.Tensor
		if c.bias {
			bias, dbias = h.random(c.out), h.zeros(c.out)
		}
		y := convolve(x, w, bias, c.Convolution)
		dy := h.random(y.shape...)
		what := fmt.Sprintf("%d x %d, %d to %d channels, %+v: ", c.rows, c.cols, c.in, c.out, c.Convolution)

		tx, tw, tdy := h.activation(x), h.put(w), h.activation(dy)
		ty := h.output(y.shape...)
		h.d.Convolve(ty, tx, tw, h.put(bias), c.Convolution)
		h.equal(what+"y", ty, y)

		forward := func() array { return convolve(x, w, bias, c.Convolution) }
		dx := h.output(x.shape...)
		h.d.ConvolveBackwardData(dx, tdy, tw, c.Convolution, false)
		wantX := gradient(x, dy, forward)
		h.equal(what+"dx", dx, wantX)
		before := h.random(x.shape...)
		dx = h.activation(before)
		h.d.ConvolveBackwardData(dx, tdy, tw, c.Convolution, true)
		h.equal(what+"dx added", dx, plus(before, wantX))

		before = h.random(w.shape...)
		dw := h.put(before)
		h.d.ConvolveBackwardWeights(dw, dbias, tdy, tx, c.Convolution)
		h.equal(what+"dw", dw, plus(before, gradient(w, dy, forward)))
		if c.bias {
			h.equal(what+"dbias", dbias, gradient(bias, dy, forward))
		}
	}
}

func testBatchNorm(h *harness) {
	const epsilon, momentum = 1e-5, 0.1
	for _, c := range []struct {
		n, rows, cols, channels, views int
		residual, relu                 bool
	}{
		{3, 5, 4, 6, 1, false, true},
		{4, 3, 3, 5, 2, true, true},
		{2, 2, 3, 17, 2, false, false},
		{6, 1, 2, 3, 3, true, false},
		{4, 3, 2, 8, 2, true, true},
		{2, 2, 2, 20, 1, false, true},
		{4, 3, 3, 16, 2, false, true},
		{3, 2, 3, 24, 1, false, false},
		{3, 2, 3, 8, 1, true, false},
	} {
		shape := []int{c.n, c.rows, c.cols, c.channels}
		x, weight, bias := h.random(shape...), h.random(c.channels), h.random(c.channels)
		for i := range x.data {
			x.data[i] = h.round(2*x.data[i] + 3) // a mean to subtract
		}
		var residual array
		if c.residual {
			residual = h.random(shape...)
		}
		forward := func() array { return batchNorm(x, residual, weight, bias, c.views, c.relu, epsilon) }
		y, dy := forward(), h.random(shape...)
		what := fmt.Sprintf("%v of %d views, residual %v, ReLU %v: ", shape, c.views, c.residual, c.relu)

		runningMean, runningVar := h.random(c.channels), h.random(c.channels)
		for i := range runningVar.data {
			runningVar.data[i] = math.Abs(runningVar.data[i]) + 0.5
		}
		beforeW, beforeB := h.random(c.channels), h.random(c.channels)
		op := &device.BatchNorm{
			Weight: h.put(weight), Bias: h.put(bias), RunningMean: h.put(runningMean), RunningVar: h.put(runningVar),
			SavedMean: h.garbage(c.views, c.channels), SavedInvStd: h.garbage(c.views, c.channels),
			WeightGrad: h.put(beforeW), BiasGrad: h.put(beforeB),
			Views: c.views, Epsilon: epsilon, RunningMomentum: momentum, ReLU: c.relu, Residual: c.residual,
		}
		tx, ty, tr := h.activation(x), h.output(shape...), h.activation(residual)

		inference := newArray(shape...)
		for i, v := range x.data {
			ch := i % c.channels
			inference.data[i] = weight.data[ch]*(v-runningMean.data[ch])/math.Sqrt(runningVar.data[ch]+epsilon) + bias.data[ch]
			if c.residual {
				inference.data[i] += residual.data[i]
			}
			if c.relu {
				inference.data[i] = max(inference.data[i], 0)
			}
		}
		h.d.BatchNormInference(ty, tx, tr, op)
		h.equal(what+"inference", ty, inference)

		h.d.BatchNorm(ty, tx, tr, op)
		h.equal(what+"y", ty, y)
		perView := len(x.data) / c.views
		for g := range c.views {
			for ch := range c.channels {
				m, v := moments(x.data[g*perView:(g+1)*perView], ch, c.channels)
				n := float64(perView / c.channels)
				runningMean.data[ch] += momentum * (m - runningMean.data[ch])
				runningVar.data[ch] += momentum * (v*n/(n-1) - runningVar.data[ch])
			}
		}
		h.equal(what+"running mean", op.RunningMean, runningMean)
		h.equal(what+"running variance", op.RunningVar, runningVar)

		dx, tdy := h.output(shape...), h.activation(dy)
		h.d.BatchNormBackward(dx, tdy, tx, ty, op)
		h.equal(what+"dx", dx, gradient(x, dy, forward))
		h.equal(what+"dweight", op.WeightGrad, plus(beforeW, gradient(weight, dy, forward)))
		h.equal(what+"dbias", op.BiasGrad, plus(beforeB, gradient(bias, dy, forward)))
		if c.residual {
			h.equal(what+"gradient of the residual", tdy, gradient(residual, dy, forward))
		}
		tdy = h.activation(dy)
		h.d.BatchNormBackward(tdy, tdy, tx, ty, op)
		h.equal(what+"dx in place", tdy, gradient(x, dy, forward))
	}
}

// testLargeBatchNorm has more rows than one pass sums at once. Gradients are
// compared along random directions, without ReLU, whose kinks such a step
// would cross.
func testLargeBatchNorm(h *harness) {
	for _, channels := range []int{33, 132, 136} {
		largeBatchNorm(h, channels)
	}
}

func largeBatchNorm(h *harness, channels int) {
	const views = 2
	shape := []int{4, 40, 25, channels}
	x, residual, weight, bias, dy := h.random(shape...), h.random(shape...), h.random(channels), h.random(channels), h.random(shape...)
	op := &device.BatchNorm{
		Weight: h.put(weight), Bias: h.put(bias), RunningMean: h.zeros(channels), RunningVar: h.zeros(channels),
		SavedMean: h.garbage(views, channels), SavedInvStd: h.garbage(views, channels),
		WeightGrad: h.zeros(channels), BiasGrad: h.zeros(channels), Views: views, Epsilon: 1e-5, RunningMomentum: 0.1, Residual: true,
	}
	forward := func() array { return batchNorm(x, residual, weight, bias, views, false, op.Epsilon) }
	y, dx, dr, tx := h.output(shape...), h.output(shape...), h.activation(dy), h.activation(x)
	h.d.BatchNorm(y, tx, h.activation(residual), op)
	h.equal("y", y, forward())
	h.d.BatchNormBackward(dx, dr, tx, y, op)
	for _, g := range []struct {
		name string
		got  device.Tensor
		by   array
	}{{"dx", dx, x}, {"gradient of the residual", dr, residual}, {"dweight", op.WeightGrad, weight}, {"dbias", op.BiasGrad, bias}} {
		values := h.get(g.got)
		direction := h.random(g.by.shape...)
		var got, size float64
		for i, v := range values {
			got += float64(v) * direction.data[i]
			size += float64(v) * float64(v)
		}
		want := slope(g.by, direction, dy, forward)
		if math.Abs(got-want) > 10*h.tolerance*math.Sqrt(size) {
			h.Errorf("%d channels: %s along a random direction is %g, want %g", channels, g.name, got, want)
		}
	}
}

func testMaxPool(h *harness) {
	for _, p := range []struct {
		channels int
		device.Convolution
	}{
		{5, device.Convolution{Kernel: 3, Stride: 2, Padding: 1}},
		{5, device.Convolution{Kernel: 2, Stride: 2}},
		{5, device.Convolution{Kernel: 3, Stride: 1, Padding: 1}},
		{8, device.Convolution{Kernel: 3, Stride: 2, Padding: 1}},
	} {
		c, x := p.Convolution, h.distinct(2, 7, 6, p.channels)
		y := maxPool(x, c)
		dy := h.random(y.shape...)
		tx, ty, dx := h.activation(x), h.output(y.shape...), h.output(x.shape...)
		h.d.MaxPool(ty, tx, c)
		h.equal(fmt.Sprintf("%+v: y", p), ty, y)
		h.d.MaxPoolBackward(dx, h.activation(dy), tx, ty, c)
		h.equal(fmt.Sprintf("%+v: dx", p), dx, gradient(x, dy, func() array { return maxPool(x, c) }))
	}
	// Of equal maxima the first gets the gradient.
	x, y, dx := h.activation(array{[]int{1, 2, 2, 1}, []float64{1, 1, 1, 1}}), h.output(1, 1, 1, 1), h.output(1, 2, 2, 1)
	c := device.Convolution{Kernel: 2, Stride: 2}
	h.d.MaxPool(y, x, c)
	h.d.MaxPoolBackward(dx, h.activation(array{[]int{1, 1, 1, 1}, []float64{3}}), x, y, c)
	h.equal("dx of equal values", dx, array{[]int{1, 2, 2, 1}, []float64{3, 0, 0, 0}})
}

func testAveragePool(h *harness) {
	for _, c := range []device.Convolution{{Kernel: 2, Stride: 2}, {Kernel: 3, Stride: 1}, {Kernel: 1, Stride: 1}, {Kernel: 5, Stride: 5}} {
		x := h.random(2, 5, 5, 3)
		y := averagePool(x, c)
		dy := h.random(y.shape...)
		ty, dx := h.output(y.shape...), h.output(x.shape...)
		h.d.AveragePool(ty, h.activation(x), c)
		h.equal(fmt.Sprintf("%+v: y", c), ty, y)
		h.d.AveragePoolBackward(dx, h.activation(dy), c)
		h.equal(fmt.Sprintf("%+v: dx", c), dx, gradient(x, dy, func() array { return averagePool(x, c) }))
	}
}

func testNormalize(h *harness) {
	x, dy := h.random(2, 3, 2, 7), h.random(2, 3, 2, 7)
	clear(x.data[:7]) // a zero vector stays zero
	y := normalize(x)
	ty, norms, tdy := h.garbage(x.shape...), h.garbage(12), h.put(dy)
	h.d.Normalize(ty, norms, h.activation(x))
	h.equal("y", ty, y)
	dx := h.output(x.shape...)
	h.d.NormalizeBackward(dx, tdy, ty, norms)
	for i := range 7 {
		if got, want := float64(h.get(dx)[i]), dy.data[i]/1e-12; math.Abs(got-want) > math.Abs(want)*h.tolerance {
			h.Errorf("gradient %d of a zero vector is %g, want %g", i, got, want)
		}
	}
	rest := func(a array) array { return array{[]int{1, 11, 1, 7}, a.data[7:]} }
	want := gradient(rest(x), rest(dy), func() array { return normalize(rest(x)) })
	values := array{[]int{11, 7}, nil}
	for _, v := range h.get(dx)[7:] {
		values.data = append(values.data, float64(v))
	}
	h.equal("dx", h.put(values), want)
}

func testPropagation(h *harness) {
	for _, p := range []device.Propagation{{Gamma: 0.5, Clamp: 0.2}, {Gamma: 1}, {Gamma: 2}, {Gamma: 4}, {Gamma: 2, Clamp: 0.3}} {
		u, g := normalize(h.random(2, 3, 4, 5)), h.random(2, 3, 4, 5)
		dy := h.random(u.shape...)
		forward := func() array { return propagate(u, g, p) }
		tu, tg := h.put(u), h.put(g)
		y, cosines, du, dg := h.output(u.shape...), h.garbage(2, 12, 12), h.garbage(u.shape...), h.garbage(u.shape...)
		h.d.Propagate(y, cosines, tu, tg, p)
		h.equal(fmt.Sprintf("%+v: y", p), y, forward())
		h.d.PropagateBackward(du, dg, h.activation(dy), cosines, tu, tg, p)
		h.equal(fmt.Sprintf("%+v: du", p), du, gradient(u, dy, forward))
		h.equal(fmt.Sprintf("%+v: dg", p), dg, gradient(g, dy, forward))
	}
}

func testUpdates(h *harness) {
	for _, u := range []device.Update{
		{LearningRate: 0.3, Momentum: 0.9, WeightDecay: 0.01, Adapt: true, Trust: 0.02, Epsilon: 1e-8},
		{LearningRate: 0.3, Momentum: 0.9, WeightDecay: 0.01},
		{LearningRate: 0.1},
	} {
		p, buffer := h.random(50, 700), h.random(50, 700)
		tp, tb := h.put(p), h.put(buffer)
		for range 2 {
			g := h.random(50, 700)
			h.d.Update(tp, tb, h.put(g), u)
			for i := range g.data {
				g.data[i] += u.WeightDecay * p.data[i]
			}
			scale := 1.0
			if u.Adapt {
				scale = u.Trust * length(p.data) / (length(g.data) + u.Epsilon)
			}
			for i := range p.data {
				buffer.data[i] = u.Momentum*buffer.data[i] + scale*g.data[i]
				p.data[i] -= u.LearningRate * buffer.data[i]
			}
		}
		h.equal(fmt.Sprintf("%+v: momentum", u), tb, buffer)
		h.equal(fmt.Sprintf("%+v: parameter", u), tp, p)
	}
	zero, buffer := h.zeros(3, 2), h.zeros(3, 2)
	g := h.random(3, 2)
	h.d.Update(zero, buffer, h.put(g), device.Update{LearningRate: 1, Adapt: true, Trust: 0.001})
	h.equal("momentum of a parameter of length 0, which is not scaled", buffer, g)

	key, query := h.random(9, 3000), h.random(9, 3000)
	tk := h.put(key)
	h.d.MovingAverage(tk, h.put(query), 0.99)
	for i := range key.data {
		key.data[i] = 0.99*key.data[i] + 0.01*query.data[i]
	}
	h.equal("moving average", tk, key)

	a, b := h.random(40000), h.random(40000)
	ta := h.activation(a)
	h.d.Add(ta, h.activation(b))
	h.equal("sum", ta, plus(a, b))
	h.d.Zero(ta)
	h.equal("zero", ta, newArray(40000))
}

// testMemory checks that memory in use is not given out again.
// testManyUpdates makes steps of many tensors in a row, as training does, with
// other values each time, and frees what is not needed right behind them.
func testManyUpdates(h *harness) {
	u := device.Update{LearningRate: 0.3, Momentum: 0.9, Trust: 0.02, Epsilon: 1e-8}
	lengths := []int{1, 3000, 64, 4096, 4097, 12_000, 7, 31}
	type parameter struct {
		p, buffer, key    array
		tp, tb, tk, grads device.Tensor
	}
	var list []*parameter
	for _, n := range lengths {
		p := &parameter{p: h.random(n), buffer: h.random(n), key: h.random(n)}
		p.tp, p.tb, p.tk, p.grads = h.put(p.p), h.put(p.buffer), h.put(p.key), h.garbage(n)
		list = append(list, p)
	}
	for step := range 3 {
		u.LearningRate /= 2
		for _, p := range list {
			h.d.Zero(p.grads)
		}
		for i, p := range list {
			h.d.MovingAverage(p.tk, p.tp, 0.9)
			for k := range p.key.data {
				p.key.data[k] = 0.9*p.key.data[k] + 0.1*p.p.data[k]
			}
			if i == 4 && step == 1 { // in the middle of them
				h.equal("key", list[2].tk, list[2].key)
			}
		}
		gradients := make([]array, len(list))
		for i, p := range list {
			gradients[i] = h.random(lengths[i])
			g := h.put(gradients[i])
			h.d.Add(p.grads, g)
			h.d.Free(g)
		}
		for i, p := range list {
			u := u
			u.Adapt = i%2 == 1
			if u.Adapt {
				u.WeightDecay = 0.01
			}
			h.d.Update(p.tp, p.tb, p.grads, u)
			g := gradients[i].data
			for k := range g {
				g[k] += u.WeightDecay * p.p.data[k]
			}
			scale := 1.0
			if u.Adapt {
				scale = u.Trust * length(p.p.data) / (length(g) + u.Epsilon)
			}
			for k := range g {
				p.buffer.data[k] = u.Momentum*p.buffer.data[k] + scale*g[k]
				p.p.data[k] -= u.LearningRate * p.buffer.data[k]
			}
		}
		if step == 1 { // what is freed is given out again
			h.d.Free(list[0].grads)
			list[0].grads = h.garbage(lengths[0])
		}
	}
	for i, p := range list {
		h.equal(fmt.Sprintf("parameter %d", i), p.tp, p.p)
		h.equal(fmt.Sprintf("momentum %d", i), p.tb, p.buffer)
		h.equal(fmt.Sprintf("key %d", i), p.tk, p.key)
	}
}

func testMemory(h *harness) {
	want := map[int]array{}
	tensors := map[int]device.Tensor{}
	for i := range 200 {
		if slot := h.rng.IntN(20); tensors[slot].Exists() {
			h.equal("a tensor after other allocations", tensors[slot], want[slot])
			h.d.Free(tensors[slot])
			delete(tensors, slot)
		} else {
			want[slot] = h.random(1+h.rng.IntN(3), 1+i%4)
			tensors[slot] = h.put(want[slot])
		}
	}
}

func testEmptyBatch(h *harness) {
	empty := func() device.Tensor { return h.d.AllocActivation(0, 4, 4, 2) }
	c := device.Convolution{Kernel: 3, Stride: 1, Padding: 1}
	w := h.random(2, 3, 3, 2)
	dw := h.put(w)
	h.d.Convolve(empty(), empty(), h.put(w), device.Tensor{}, c)
	h.d.ConvolveBackwardData(empty(), empty(), h.put(w), c, false)
	h.d.ConvolveBackwardWeights(dw, device.Tensor{}, empty(), empty(), c)
	h.equal("gradient of weights", dw, w)
	mean := h.random(2)
	b := &device.BatchNorm{
		Weight: h.zeros(2), Bias: h.zeros(2), RunningMean: h.put(mean), RunningVar: h.zeros(2), SavedMean: h.zeros(1, 2), SavedInvStd: h.zeros(1, 2),
		WeightGrad: h.zeros(2), BiasGrad: h.zeros(2), Views: 1, Epsilon: 1e-5, RunningMomentum: 0.1, ReLU: true,
	}
	h.d.BatchNorm(empty(), empty(), device.Tensor{}, b)
	h.d.BatchNormBackward(empty(), empty(), empty(), empty(), b)
	h.equal("running mean", b.RunningMean, mean)
	h.equal("gradient of the bias", b.BiasGrad, newArray(2))
}

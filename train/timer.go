package train

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-436d2970/pixpro/train/device"
)

// operationTimer times the operations of a device that has no clock of its own, those
// that do something worth naming. Losses are timed as what they are composed of, unless
// the device has them as operations: then it is a fusedTimer.
type operationTimer struct {
	device.Device
	timed   bool
	kernels map[string]*device.KernelTime
	start   time.Time
}

// fusedTimer is an operationTimer of a device with losses of its own.
type fusedTimer struct {
	*operationTimer
	losses device.FusedLosses
}

// timed wraps a device.
func timed(d device.Device) (device.Device, *operationTimer) {
	t := &operationTimer{Device: d, kernels: map[string]*device.KernelTime{}}
	if f, ok := d.(device.FusedLosses); ok {
		return &fusedTimer{t, f}, t
	}
	return t, t
}

// profile is what was timed since begin, and what was not as one operation more.
func (t *operationTimer) profile() device.Profile {
	p := device.Profile{Seconds: time.Since(t.start).Seconds()}
	rest := p.Seconds
	for _, k := range t.kernels {
		p.Kernels = append(p.Kernels, *k)
		rest -= k.Seconds
	}
	slices.SortFunc(p.Kernels, func(a, b device.KernelTime) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Name, b.Name))
	})
	p.Kernels = append(p.Kernels, device.KernelTime{Name: "all else", Calls: 1, Seconds: rest})
	return p
}

func (t *operationTimer) begin() { t.timed, t.start = true, time.Now() }

// time times a call that reads and writes tensors, once each.
func (t *operationTimer) time(name string, flops int64, call func(), tensors ...device.Tensor) {
	if !t.timed {
		call()
		return
	}
	k := t.kernels[name]
	if k == nil {
		k = &device.KernelTime{Name: name}
		t.kernels[name] = k
	}
	start := time.Now()
	call()
	k.Seconds += time.Since(start).Seconds()
	k.Calls++
	k.Flops += flops
	for _, x := range tensors {
		if x.Exists() {
			k.Bytes += 4 * int64(x.Memory.Floats()) // which may hold two halves each
		}
	}
}

// convolution times one of a convolution's operations, whose results are y's.
func (t *operationTimer) convolution(what string, c device.Convolution, y device.Tensor, in int, call func(), tensors ...device.Tensor) {
	c = c.Explicit()
	products := int64(y.Len()) * int64(c.Kernel*c.Kernel*in/c.Groups)
	t.time(fmt.Sprintf("%d x %d convolution, stride %d: %s", c.Kernel, c.Kernel, c.Stride, what), 2*products, call, tensors...)
}

func (t *operationTimer) UploadViews(dst device.Tensor, views [2][]uint8, mean, std [3]float64) {
	t.time("views to floats", 0, func() { t.Device.UploadViews(dst, views, mean, std) }, dst)
}

func (t *operationTimer) Add(dst, src device.Tensor) {
	t.time("sum of tensors", 0, func() { t.Device.Add(dst, src) }, dst, dst, src)
}

func (t *operationTimer) Zero(x device.Tensor) {
	t.time("zeros", 0, func() { t.Device.Zero(x) }, x)
}

func (t *operationTimer) Convolve(y, x, w, bias device.Tensor, c device.Convolution) {
	t.convolution("forward", c, y, x.Channels(), func() { t.Device.Convolve(y, x, w, bias, c) }, y, x, w)
}

func (t *operationTimer) ConvolveBackwardData(dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	t.convolution("data", c, dy, dx.Channels(), func() { t.Device.ConvolveBackwardData(dx, dy, w, c, accumulate) }, dx, dy, w)
}

func (t *operationTimer) ConvolveBackwardWeights(dw, dbias, dy, x device.Tensor, c device.Convolution) {
	t.convolution("weights", c, dy, x.Channels(), func() { t.Device.ConvolveBackwardWeights(dw, dbias, dy, x, c) }, dw, dy, x)
}

func (t *operationTimer) BatchNorm(y, x, residual device.Tensor, b *device.BatchNorm) {
	t.time("batch norm", 0, func() { t.Device.BatchNorm(y, x, residual, b) }, y, x, x, residual)
}

func (t *operationTimer) BatchNormBackward(dx, dy, x, y device.Tensor, b *device.BatchNorm) {
	t.time("batch norm, backward", 0, func() { t.Device.BatchNormBackward(dx, dy, x, y, b) }, dx, dy, dy, x, x)
}

func (t *operationTimer) MaxPool(y, x device.Tensor, c device.Convolution) {
	t.time("max pool", 0, func() { t.Device.MaxPool(y, x, c) }, y, x)
}

func (t *operationTimer) MaxPoolBackward(dx, dy, x, y device.Tensor, c device.Convolution) {
	t.time("max pool, backward", 0, func() { t.Device.MaxPoolBackward(dx, dy, x, y, c) }, dx, dy, x, y)
}

func (t *operationTimer) Normalize(y, norms, x device.Tensor) {
	t.time("channel norm", 0, func() { t.Device.Normalize(y, norms, x) }, y, x)
}

func (t *operationTimer) NormalizeBackward(dx, dy, y, norms device.Tensor) {
	t.time("channel norm, backward", 0, func() { t.Device.NormalizeBackward(dx, dy, y, norms) }, dx, dy, y)
}

// attention is what a propagation multiplies in each of two products.
func attention(u, g device.Tensor) int64 {
	cells := int64(u.Shape[1] * u.Shape[2])
	return 2 * int64(u.Shape[0]) * cells * cells * int64(u.Channels()+g.Channels())
}

func (t *operationTimer) Propagate(y, cosines, u, g device.Tensor, p device.Propagation) {
	t.time("propagation", attention(u, g), func() { t.Device.Propagate(y, cosines, u, g, p) }, y, cosines, u, g)
}

func (t *operationTimer) PropagateBackward(du, dg, dy, cosines, u, g device.Tensor, p device.Propagation) {
	t.time("propagation, backward", 2*attention(u, g), func() { t.Device.PropagateBackward(du, dg, dy, cosines, u, g, p) }, du, dg, dy, cosines, u, g)
}

func (t *operationTimer) Update(p, buffer, g device.Tensor, u device.Update) {
	t.time("update", 0, func() { t.Device.Update(p, buffer, g, u) }, p, p, p, buffer, buffer, g, g)
}

func (t *operationTimer) MovingAverage(key, query device.Tensor, momentum float64) {
	t.time("key update", 0, func() { t.Device.MovingAverage(key, query, momentum) }, key, key, query)
}

func (t *operationTimer) Multiply(c, a, b device.Tensor, p device.Product) {
	t.time("products of matrices", 2*int64(p.Batch)*int64(p.M)*int64(p.N)*int64(p.K), func() { t.Device.Multiply(c, a, b, p) }, c, a, b)
}

func (f *fusedTimer) PixProLoss(losses, dq, q, k device.Tensor, m device.Matching) {
	f.time("loss", 0, func() { f.losses.PixProLoss(losses, dq, q, k, m) }, dq, q, k)
}

func (f *fusedTimer) PixContrastLoss(losses, dq, q, k device.Tensor, m device.Matching, tau float64) {
	f.time("loss", 0, func() { f.losses.PixContrastLoss(losses, dq, q, k, m, tau) }, dq, q, k)
}

func (f *fusedTimer) SimilarityLoss(losses, dq, q, k device.Tensor, m device.Matching) {
	f.time("loss", 0, func() { f.losses.SimilarityLoss(losses, dq, q, k, m) }, dq, q, k)
}

func (f *fusedTimer) InfoNCELoss(losses, dq, q, k device.Tensor, m device.Matching, tau float64) {
	f.time("loss", 0, func() { f.losses.InfoNCELoss(losses, dq, q, k, m, tau) }, dq, q, k)
}

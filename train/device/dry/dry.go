// Package dry is a device that computes nothing and counts: the memory that a
// computation needs, and the floating-point operations of its convolutions and
// matrix products. It tells what a training step will take before one is made.
package dry

import "github.com/seed-436d2970/pixpro/train/device"

// Device counts. Its tensors have shapes and no content; it implements
// device.Device.
type Device struct {
	Bytes     int64 // in use
	PeakBytes int64
	Flops     int64 // a multiplication and an addition are two
	// HalfActivations says that activations take two bytes a value, not four.
	HalfActivations bool
}

type memory struct {
	floats int
	bytes  int64
}

func (m memory) Floats() int { return m.floats }

// Name implements device.Device.
func (d *Device) Name() string { return "dry" }

// Sync implements device.Device.
func (d *Device) Sync() error { return nil }

// Err implements device.Device.
func (d *Device) Err() error { return nil }

// Close implements device.Device.
func (d *Device) Close() error { return nil }

// Alloc implements device.Device.
func (d *Device) Alloc(shape ...int) device.Tensor { return d.alloc(4, shape) }

// AllocActivation implements device.Device.
func (d *Device) AllocActivation(shape ...int) device.Tensor {
	if d.HalfActivations {
		return d.alloc(2, shape)
	}
	return d.alloc(4, shape)
}

func (d *Device) alloc(size int64, shape []int) device.Tensor {
	n := device.Elements(shape)
	m := memory{n, size * int64(n)}
	d.Bytes += m.bytes
	d.PeakBytes = max(d.PeakBytes, d.Bytes)
	return device.Tensor{Shape: shape, Memory: m}
}

// Free implements device.Device.
func (d *Device) Free(t device.Tensor) {
	if t.Exists() {
		d.Bytes -= t.Memory.(memory).bytes
	}
}

// products counts the multiplication of an m x k with a k x n matrix.
func (d *Device) products(m, n, k int) { d.Flops += 2 * int64(m) * int64(n) * int64(k) }

// Convolve implements device.Device.
func (d *Device) Convolve(y, _, w, _ device.Tensor, _ device.Convolution) {
	d.products(y.Rows(), w.Len(), 1)
}

// ConvolveBackwardData implements device.Device.
func (d *Device) ConvolveBackwardData(_, dy, w device.Tensor, _ device.Convolution, _ bool) {
	d.products(dy.Rows(), w.Len(), 1)
}

// ConvolveBackwardWeights implements device.Device.
func (d *Device) ConvolveBackwardWeights(dw, _, dy, _ device.Tensor, _ device.Convolution) {
	d.products(dy.Rows(), dw.Len(), 1)
}

// pixels counts n products between all cells of u's images.
func (d *Device) pixels(u device.Tensor, n int) {
	cells := u.Shape[1] * u.Shape[2]
	d.products(n*u.Shape[0]*cells, cells, u.Channels())
}

// Propagate implements device.Device.
func (d *Device) Propagate(_, _, u, _ device.Tensor, _ device.Propagation) { d.pixels(u, 2) }

// PropagateBackward implements device.Device.
func (d *Device) PropagateBackward(_, _, _, _, u, _ device.Tensor, _ device.Propagation) {
	d.pixels(u, 4)
}

// PixProLoss implements device.FusedLosses.
func (d *Device) PixProLoss(_, _, q, _ device.Tensor, _ device.Matching) { d.pixels(q, 2) }

// PixContrastLoss implements device.FusedLosses.
func (d *Device) PixContrastLoss(_, _, q, _ device.Tensor, _ device.Matching, _ float64) {
	d.pixels(q, 2)
}

// Multiply implements device.Device.
func (d *Device) Multiply(_, _, _ device.Tensor, p device.Product) {
	d.products(p.Batch*p.M, p.N, p.K)
}

// Download implements device.Device: everything is 0.
func (d *Device) Download(dst []float32, _ device.Tensor) { clear(dst) }

// The other methods of device.Device cost nothing that is counted.

func (d *Device) Zero(device.Tensor)                                                              {}
func (d *Device) Upload(device.Tensor, []float32)                                                 {}
func (d *Device) Add(_, _ device.Tensor)                                                          {}
func (d *Device) UploadViews(device.Tensor, [2][]uint8, [3]float64, [3]float64)                   {}
func (d *Device) BatchNorm(_, _, _ device.Tensor, _ *device.BatchNorm)                            {}
func (d *Device) BatchNormInference(_, _, _ device.Tensor, _ *device.BatchNorm)                   {}
func (d *Device) BatchNormBackward(_, _, _, _ device.Tensor, _ *device.BatchNorm)                 {}
func (d *Device) MaxPool(_, _ device.Tensor, _ device.Convolution)                                {}
func (d *Device) MaxPoolBackward(_, _, _, _ device.Tensor, _ device.Convolution)                  {}
func (d *Device) AveragePool(_, _ device.Tensor, _ device.Convolution)                            {}
func (d *Device) AveragePoolBackward(_, _ device.Tensor, _ device.Convolution)                    {}
func (d *Device) Normalize(_, _, _ device.Tensor)                                                 {}
func (d *Device) NormalizeBackward(_, _, _, _ device.Tensor)                                      {}
func (d *Device) SimilarityLoss(_, _, _, _ device.Tensor, _ device.Matching)                      {}
func (d *Device) InfoNCELoss(_, _, _, _ device.Tensor, _ device.Matching, _ float64)              {}
func (d *Device) Update(_, _, _ device.Tensor, _ device.Update)                                   {}
func (d *Device) MovingAverage(_, _ device.Tensor, _ float64)                                     {}
func (d *Device) Combine(_ device.Tensor, _ float64, _ device.Tensor, _ float64, _ device.Tensor) {}
func (d *Device) Copy(_ device.Tensor, _ device.Place, _ device.Tensor, _ device.Place, _, _ int) {}
func (d *Device) ReLU(_, _ device.Tensor)                                                         {}
func (d *Device) ReLUBackward(_, _, _ device.Tensor)                                              {}
func (d *Device) Upsample(_, _ device.Tensor)                                                     {}
func (d *Device) UpsampleBackward(_, _ device.Tensor)                                             {}
func (d *Device) Softmax(_, _, _ device.Tensor, _ float64)                                        {}
func (d *Device) SoftmaxBackward(_, _, _ device.Tensor, _ float64)                                {}
func (d *Device) LogSumExp(_, _, _ device.Tensor, _ float64)                                      {}
func (d *Device) LogSumExpBackward(_, _, _, _, _ device.Tensor, _ float64)                        {}
func (d *Device) Mean(_, _, _ device.Tensor)                                                      {}
func (d *Device) MeanBackward(_, _, _ device.Tensor)                                              {}
func (d *Device) ArgMax(_, _ device.Tensor)                                                       {}
func (d *Device) Gather(_, _, _ device.Tensor)                                                    {}
func (d *Device) GatherBackward(_, _, _ device.Tensor)                                            {}
func (d *Device) Positives(_ device.Tensor, _, _ int, _ device.Matching)                          {}

var (
	_ device.Device      = (*Device)(nil)
	_ device.FusedLosses = (*Device)(nil)
)

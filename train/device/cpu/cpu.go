// Package cpu is the training device that every machine has.
//
// A convolution is a product of its input's windows, which are read where they lie, and
// its weights; one of 3 x 3 windows is computed by Winograd's algorithm. Work is split
// over goroutines by parts of the result, while the kernels of the products
// (internal/gemm) stay on their goroutine. Sums over a batch, in batch normalisation and
// in the losses, are in float64. All sums are cut into parts, and these added up in an
// order, that depend on the shapes alone: results are the same bit for bit whatever the
// number of threads. Memory that is freed is kept for the next allocation of its size, so
// that after the first step nothing is allocated.
package cpu

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// Device computes on the processor. It implements device.Device and
// device.FusedLosses.
type Device struct {
	threads int
	free    map[int][]*memory // by capacity
	scratch []scratch         // one a thread
	weights []float32         // packed
	zeros   []float32
	sums    []float64 // partial sums of reductions
}

// scratch is a thread's memory, grown as needed.
type scratch struct {
	floats   []float32
	copies   []float32
	pointers []*float32
	places   []int
}

type memory struct{ data []float32 }

// Floats implements device.Memory.
func (m *memory) Floats() int { return len(m.data) }

// New returns a device that uses at most the given number of threads, all
// that the Go runtime does if it is 0.
func New(threads int) *Device {
	if threads <= 0 {
		threads = cpu.Cores()
	}
	return &Device{threads: threads, free: map[int][]*memory{}, scratch: make([]scratch, threads)}
}

// Name tells the implementation of matrix products and the threads.
func (d *Device) Name() string {
	return fmt.Sprintf("cpu (%d threads, matrix products: %s)", d.threads, gemm.Name())
}

// Sync implements device.Device: all work is done when a call returns.
func (d *Device) Sync() error { return nil }

// Err implements device.Device.
func (d *Device) Err() error { return nil }

// Close drops the memory kept for reuse.
func (d *Device) Close() error {
	d.free, d.scratch, d.sums = map[int][]*memory{}, make([]scratch, d.threads), nil
	d.weights, d.zeros = nil, nil
	return nil
}

// Alloc implements device.Device.
func (d *Device) Alloc(shape ...int) device.Tensor {
	n := device.Elements(shape)
	t := device.Tensor{Shape: shape}
	if kept := d.free[n]; len(kept) > 0 {
		t.Memory = kept[len(kept)-1]
		d.free[n] = kept[:len(kept)-1]
	} else {
		t.Memory = &memory{make([]float32, n)}
	}
	return t
}

// AllocActivation implements device.Device: all tensors are float32.
func (d *Device) AllocActivation(shape ...int) device.Tensor { return d.Alloc(shape...) }

// Free implements device.Device.
func (d *Device) Free(t device.Tensor) {
	if m, ok := t.Memory.(*memory); ok {
		d.free[len(m.data)] = append(d.free[len(m.data)], m)
	}
}

// Zero implements device.Device.
func (d *Device) Zero(t device.Tensor) { clear(floats(t)) }

// Upload implements device.Device.
func (d *Device) Upload(dst device.Tensor, src []float32) {
	mustBe(dst.Len() == len(src), "upload of %d floats to %v", len(src), dst.Shape)
	copy(floats(dst), src)
}

// Download implements device.Device.
func (d *Device) Download(dst []float32, src device.Tensor) {
	mustBe(src.Len() == len(dst), "download of %v to %d floats", src.Shape, len(dst))
	copy(dst, floats(src))
}

// Add implements device.Device.
func (d *Device) Add(dst, src device.Tensor) {
	mustBe(dst.Len() == src.Len(), "sum of %v and %v", dst.Shape, src.Shape)
	a, b := floats(dst), floats(src)
	d.spans(len(a), func(from, to int) { addTo(a[from:to], b[from:to]) })
}

// UploadViews implements device.Device.
func (d *Device) UploadViews(dst device.Tensor, views [2][]uint8, mean, std [3]float64) {
	images, area := dst.Shape[0]/2, dst.Shape[1]*dst.Shape[2]
	for _, v := range views {
		mustBe(dst.Shape[3] == 3 && 6*area*images == dst.Len() && len(v) == images*3*area, "upload of views of %d pixel values to %v", len(v), dst.Shape)
	}
	var table [3][256]float32
	for c := range table {
		for v := range table[c] {
			table[c][v] = float32((float64(v)/255 - mean[c]) / std[c])
		}
	}
	out := floats(dst)
	parallel.For(2*images, d.threads, func(i int) {
		image := out[i*area*3:][:area*3]
		for c := range table {
			plane := views[i/images][(i%images*3+c)*area:][:area]
			for p, v := range plane {
				image[p*3+c] = table[c][v]
			}
		}
	})
}

var (
	_ device.Device      = (*Device)(nil)
	_ device.FusedLosses = (*Device)(nil)
)

// floats is a tensor's content.
func floats(t device.Tensor) []float32 {
	if !t.Exists() {
		return nil
	}
	return t.Memory.(*memory).data[:t.Len()]
}

// mustBe panics with a programmer's error unless ok.
func mustBe(ok bool, format string, args ...any) {
	if !ok {
		panic("cpu: shapes do not fit: " + fmt.Sprintf(format, args...))
	}
}

// spans calls body for parts of [0, n), some for each thread.
func (d *Device) spans(n int, body func(from, to int)) {
	const least = 1 << 14 // below this a goroutine costs more than it saves
	parts := min(d.threads*4, (n+least-1)/least)
	parallel.For(parts, d.threads, func(i int) { body(i*n/parts, (i+1)*n/parts) })
}

// threadScratch is n floats of memory of undefined content that belong to a thread
// until the next call for it.
func (d *Device) threadScratch(thread, n int) []float32 {
	return grown(&d.scratch[thread].floats, n)
}

// threadCopies, threadPointers and threadPlaces are such memory for other things.
func (d *Device) threadCopies(thread, n int) []float32 { return grown(&d.scratch[thread].copies, n) }

func (d *Device) threadPointers(thread, n int) []*float32 {
	return grown(&d.scratch[thread].pointers, n)
}

func (d *Device) threadPlaces(thread, n int) []int { return grown(&d.scratch[thread].places, n) }

// packedWeights is memory of undefined content until the next call.
func (d *Device) packedWeights(n int) []float32 { return grown(&d.weights, n) }

// zeroRow points to n zeros.
func (d *Device) zeroRow(n int) *float32 {
	if len(d.zeros) < n {
		d.zeros = make([]float32, n)
	}
	return &d.zeros[0]
}

// grown is n elements of s, which is made anew if it has fewer.
func grown[T any](s *[]T, n int) []T {
	if len(*s) < n {
		*s = make([]T, n)
	}
	return (*s)[:n]
}

// partialSums is n zeroed float64 that are free until the next call.
func (d *Device) partialSums(n int) []float64 {
	if len(d.sums) < n {
		d.sums = make([]float64, n)
	}
	s := d.sums[:n]
	clear(s)
	return s
}

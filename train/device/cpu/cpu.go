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
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// Device computes on the processor. It implements device.Device and
// device.FusedLosses.
type Device struct {
	threads int
	half    bool // activations are bfloat16
	free    map[kind][]*memory
	scratch []scratch // one a thread
	weights []float32 // packed
	zeros   []float32
	sums    []float64 // partial sums of reductions
}

// scratch is a thread's memory, grown as needed.
type scratch struct {
	floats   []float32
	copies   []float32
	pointers []*float32
	halves   []*uint16
	places   []int
}

// memory holds float32, or bfloat16 in pairs.
type memory struct {
	data []float32
	half bool
}

// kind tells memory apart that is kept for reuse.
type kind struct {
	floats int
	half   bool
}

// Floats implements device.Memory.
func (m *memory) Floats() int { return len(m.data) }

// halves are the content as bfloat16.
func (m *memory) halves() []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(m.data))), 2*len(m.data))
}

// New returns a device that uses at most the given number of threads, all
// that the Go runtime does if it is 0.
func New(threads int) *Device {
	if threads <= 0 {
		threads = cpu.Cores()
	}
	return &Device{threads: threads, free: map[kind][]*memory{}, scratch: make([]scratch, threads)}
}

// NewBF16 is New with activations, and factors of convolutions, in bfloat16.
func NewBF16(threads int) *Device {
	d := New(threads)
	d.half = true
	return d
}

// Name tells the implementation of matrix products and the threads.
func (d *Device) Name() string {
	products := gemm.Name()
	if d.half && gemm.BFloat16() != nil {
		products = gemm.BFloat16Name
	} else if d.half {
		products += ", bf16 emulated"
	}
	return fmt.Sprintf("cpu (%d threads, matrix products: %s)", d.threads, products)
}

// Sync implements device.Device: all work is done when a call returns.
func (d *Device) Sync() error { return nil }

// Err implements device.Device.
func (d *Device) Err() error { return nil }

// Close drops the memory kept for reuse.
func (d *Device) Close() error {
	d.free, d.scratch, d.sums = map[kind][]*memory{}, make([]scratch, d.threads), nil
	d.weights, d.zeros = nil, nil
	return nil
}

// Alloc implements device.Device.
func (d *Device) Alloc(shape ...int) device.Tensor {
	return d.alloc(kind{device.Elements(shape), false}, shape)
}

// AllocActivation implements device.Device.
func (d *Device) AllocActivation(shape ...int) device.Tensor {
	if !d.half {
		return d.Alloc(shape...)
	}
	return d.alloc(kind{(device.Elements(shape) + 1) / 2, true}, shape)
}

func (d *Device) alloc(k kind, shape []int) device.Tensor {
	t := device.Tensor{Shape: shape}
	if kept := d.free[k]; len(kept) > 0 {
		t.Memory = kept[len(kept)-1]
		d.free[k] = kept[:len(kept)-1]
	} else {
		t.Memory = &memory{make([]float32, k.floats), k.half}
	}
	return t
}

// Free implements device.Device.
func (d *Device) Free(t device.Tensor) {
	if m, ok := t.Memory.(*memory); ok {
		k := kind{len(m.data), m.half}
		d.free[k] = append(d.free[k], m)
	}
}

// Zero implements device.Device.
func (d *Device) Zero(t device.Tensor) {
	v := valuesOf(t)
	clear(v.floats)
	clear(v.halves)
}

// Upload implements device.Device.
func (d *Device) Upload(dst device.Tensor, src []float32) {
	mustBe(dst.Len() == len(src), "upload of %d floats to %v", len(src), dst.Shape)
	if v := valuesOf(dst); v.halves != nil {
		gemm.Narrow(v.halves, src)
	} else {
		copy(v.floats, src)
	}
}

// Download implements device.Device.
func (d *Device) Download(dst []float32, src device.Tensor) {
	mustBe(src.Len() == len(dst), "download of %v to %d floats", src.Shape, len(dst))
	if v := valuesOf(src); v.halves != nil {
		gemm.Widen(dst, v.halves)
	} else {
		copy(dst, v.floats)
	}
}

// Add implements device.Device.
func (d *Device) Add(dst, src device.Tensor) {
	mustBe(dst.Len() == src.Len(), "sum of %v and %v", dst.Shape, src.Shape)
	mustBe(isHalf(dst) == isHalf(src), "sum of float32 and bfloat16")
	a, b := valuesOf(dst), valuesOf(src)
	d.spans(dst.Len(), func(from, to int) {
		if a.halves == nil {
			addTo(a.floats[from:to], b.floats[from:to])
			return
		}
		var x, y [1024]float32
		for at := from; at < to; at += len(x) {
			end := min(to, at+len(x))
			sum := a.load(x[:], at, end)
			addTo(sum, b.load(y[:], at, end))
			a.store(sum, at)
		}
	})
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
	out := valuesOf(dst)
	parallel.For(2*images, d.threads, func(i int) {
		for c := range table {
			plane := views[i/images][(i%images*3+c)*area:][:area]
			if out.halves != nil {
				var half [256]uint16
				gemm.Narrow(half[:], table[c][:])
				image := out.halves[i*area*3:][:area*3]
				for p, v := range plane {
					image[p*3+c] = half[v]
				}
				continue
			}
			image := out.floats[i*area*3:][:area*3]
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

// floats is a float32 tensor's content.
func floats(t device.Tensor) []float32 {
	if !t.Exists() {
		return nil
	}
	m := t.Memory.(*memory)
	mustBe(!m.half, "bfloat16 %v for float32", t.Shape)
	return m.data[:t.Len()]
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

// threadCopies, threadPointers, threadHalves and threadPlaces are such memory for other
// things.
func (d *Device) threadCopies(thread, n int) []float32 { return grown(&d.scratch[thread].copies, n) }

func (d *Device) threadPointers(thread, n int) []*float32 {
	return grown(&d.scratch[thread].pointers, n)
}

func (d *Device) threadHalves(thread, n int) []*uint16 { return grown(&d.scratch[thread].halves, n) }

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

//go:build linux

// Package cublas is a thin binding of the parts of cuBLAS that training needs,
// opened at run time.
package cublas

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
)

// Status is an error of cuBLAS.
type Status int32

// AllocFailed is the status of a call that found no memory on the card.
const AllocFailed Status = 3

func (s Status) Error() string {
	name, ok := map[Status]string{
		1: "NOT_INITIALIZED", AllocFailed: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
		11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
	}[s]
	if !ok {
		return fmt.Sprintf("cuBLAS status %d", int32(s))
	}
	return "cuBLAS status " + name
}

// Library is an open cuBLAS.
type Library struct {
	*toolkit.Library
	create, destroy, setMath, setStream, gemm, property uintptr
}

// Open opens the cuBLAS that goes with a driver, see toolkit.Kind.Open.
func Open(driver int) (*Library, error) {
	opened, err := toolkit.CuBLAS.Open(driver)
	if err != nil {
		return nil, err
	}
	l := &Library{Library: opened}
	return l, opened.Symbols(map[string]*uintptr{
		"cublasCreate_v2": &l.create, "cublasDestroy_v2": &l.destroy, "cublasSetMathMode": &l.setMath, "cublasSetStream_v2": &l.setStream,
		"cublasGemmStridedBatchedEx": &l.gemm, "cublasGetProperty": &l.property,
	})
}

//go:uintptrescapes
func call(function uintptr, args ...uintptr) error {
	if status, _, _ := purego.SyscallN(function, args...); int32(status) != 0 {
		return Status(int32(status))
	}
	return nil
}

// Version is major and minor of the library.
func (l *Library) Version() (string, error) {
	var parts [2]int32
	for i := range parts { // MAJOR_VERSION and MINOR_VERSION
		if err := call(l.property, uintptr(i), uintptr(unsafe.Pointer(&parts[i]))); err != nil {
			return "", fmt.Errorf("version of cuBLAS: %w", err)
		}
	}
	return fmt.Sprintf("%d.%d", parts[0], parts[1]), nil
}

// Compute is how products are computed.
type Compute int32

// Float32 accumulation, of factors as they are or, for the second, of float32
// factors rounded to TF32.
const (
	Compute32F     Compute = 68
	Compute32FTF32 Compute = 77
)

// Handle is a cuBLAS context, bound to the CUDA context that it was made in.
type Handle struct {
	library *Library
	handle  uintptr
}

// disallowReducedPrecisionReduction is a mode of products: their partial sums may
// otherwise be added up in the result's type.
const disallowReducedPrecisionReduction = 16

// Create makes a handle whose products are added up in float32 throughout.
func (l *Library) Create() (*Handle, error) {
	h := &Handle{library: l}
	if err := call(l.create, uintptr(unsafe.Pointer(&h.handle))); err != nil {
		return nil, err
	}
	if err := call(l.setMath, h.handle, disallowReducedPrecisionReduction); err != nil {
		return nil, errors.Join(err, h.Destroy())
	}
	return h, nil
}

// Destroy gives it up.
func (h *Handle) Destroy() error { return call(h.library.destroy, h.handle) }

// SetStream makes later products work on a stream of the driver's.
func (h *Handle) SetStream(stream uintptr) error { return call(h.library.setStream, h.handle, stream) }

// Matrix is the first of a batch of row-major matrices in device memory.
type Matrix struct {
	Pointer uintptr
	BF16    bool // bfloat16, else float32
	Lead    int  // elements from one row to the next
	Stride  int  // elements from one matrix to the next
}

// Gemm computes c = op(a) op(b), or adds it to c, for a batch of count: op(a) is
// m x k, op(b) k x n; op transposes where asked to.
func (h *Handle) Gemm(transA, transB bool, m, n, k int, a, b Matrix, accumulate bool, c Matrix, count int, compute Compute) error {
	const defaultAlgorithm = ^uintptr(0) // -1
	var pin runtime.Pinner
	defer pin.Unpin()
	factors := &[2]float32{1, 0} // of the product and of what is in c
	if accumulate {
		factors[1] = 1
	}
	pin.Pin(factors)
	// cuBLAS is column-major, where row-major matrices are their transposes:
	// c' = op(b)' op(a)'.
	return call(h.library.gemm, h.handle, op(transB), op(transA), uintptr(n), uintptr(m), uintptr(k), uintptr(unsafe.Pointer(&factors[0])),
		b.Pointer, b.kind(), uintptr(b.Lead), uintptr(b.Stride),
		a.Pointer, a.kind(), uintptr(a.Lead), uintptr(a.Stride), uintptr(unsafe.Pointer(&factors[1])),
		c.Pointer, c.kind(), uintptr(c.Lead), uintptr(c.Stride), uintptr(count), uintptr(compute), defaultAlgorithm)
}

func op(transposed bool) uintptr {
	if transposed {
		return 1 // CUBLAS_OP_T
	}
	return 0
}

func (m Matrix) kind() uintptr {
	if m.BF16 {
		return 14 // CUDA_R_16BF
	}
	return 0 // CUDA_R_32F
}

//go:build cuda

package cublas

/*
#cgo LDFLAGS: -lcublas
#cgo linux CFLAGS: -I/usr/local/cuda/include
#cgo linux LDFLAGS: -L/usr/local/cuda/lib64
#include <stdint.h>
#include <cublas_v2.h>

static cublasStatus_t create(uintptr_t *h) { return cublasCreate((cublasHandle_t*)h); }
static cublasStatus_t destroy(uintptr_t h) { return cublasDestroy((cublasHandle_t)h); }
static cublasStatus_t setStream(uintptr_t h, uintptr_t s) { return cublasSetStream((cublasHandle_t)h, (cudaStream_t)s); }
// Partial sums of a product may otherwise be added up in its result's type.
static cublasStatus_t setMath(uintptr_t h) {
  return cublasSetMathMode((cublasHandle_t)h, (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
}
static cublasStatus_t gemm(uintptr_t h, int ta, int tb, int m, int n, int k,
    uintptr_t a, int at, int lda, long long sa, uintptr_t b, int bt, int ldb, long long sb, float beta,
    uintptr_t c, int ct, int ldc, long long sc, int count, int compute) {
  float alpha = 1;
  return cublasGemmStridedBatchedEx((cublasHandle_t)h, (cublasOperation_t)ta, (cublasOperation_t)tb, m, n, k, &alpha,
      (const void*)a, (cudaDataType)at, lda, sa, (const void*)b, (cudaDataType)bt, ldb, sb, &beta,
      (void*)c, (cudaDataType)ct, ldc, sc, count, (cublasComputeType_t)compute, CUBLAS_GEMM_DEFAULT);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// Status is an error of cuBLAS.
type Status int

// AllocFailed is the status of a call that found no memory on the card.
const AllocFailed Status = C.CUBLAS_STATUS_ALLOC_FAILED

func (s Status) Error() string {
	name, ok := map[Status]string{
		C.CUBLAS_STATUS_NOT_INITIALIZED: "NOT_INITIALIZED", C.CUBLAS_STATUS_ALLOC_FAILED: "ALLOC_FAILED",
		C.CUBLAS_STATUS_INVALID_VALUE: "INVALID_VALUE", C.CUBLAS_STATUS_ARCH_MISMATCH: "ARCH_MISMATCH",
		C.CUBLAS_STATUS_MAPPING_ERROR: "MAPPING_ERROR", C.CUBLAS_STATUS_EXECUTION_FAILED: "EXECUTION_FAILED",
		C.CUBLAS_STATUS_INTERNAL_ERROR: "INTERNAL_ERROR", C.CUBLAS_STATUS_NOT_SUPPORTED: "NOT_SUPPORTED",
	}[s]
	if !ok {
		return fmt.Sprintf("cuBLAS status %d", int(s))
	}
	return "cuBLAS status " + name
}

func check(s C.cublasStatus_t) error {
	if s == C.CUBLAS_STATUS_SUCCESS {
		return nil
	}
	return Status(s)
}

// Compute is how products are computed.
type Compute int

// Float32 accumulation, of factors as they are or, for the second, of float32
// factors rounded to TF32.
const (
	Compute32F     Compute = C.CUBLAS_COMPUTE_32F
	Compute32FTF32 Compute = C.CUBLAS_COMPUTE_32F_FAST_TF32
)

// Handle is a cuBLAS context, bound to the CUDA context that it was made in.
type Handle struct{ h C.uintptr_t }

// Create makes a handle whose products are added up in float32 throughout.
func Create() (Handle, error) {
	var h Handle
	if err := check(C.create(&h.h)); err != nil {
		return h, err
	}
	if err := check(C.setMath(h.h)); err != nil {
		return h, errors.Join(err, h.Destroy())
	}
	return h, nil
}

// Destroy gives it up.
func (h Handle) Destroy() error { return check(C.destroy(h.h)) }

// SetStream makes later products work on s.
func (h Handle) SetStream(s cu.Stream) error {
	return check(C.setStream(h.h, C.uintptr_t(uintptr(unsafe.Pointer(s.C())))))
}

// Matrix is the first of a batch of row-major matrices in device memory.
type Matrix struct {
	Pointer cu.DevicePtr
	BF16    bool // bfloat16, else float32
	Lead    int  // elements from one row to the next
	Stride  int  // elements from one matrix to the next
}

// Gemm computes c = op(a) op(b), or adds it to c, for a batch of count: op(a) is
// m x k, op(b) k x n; op transposes where asked to.
func (h Handle) Gemm(transA, transB bool, m, n, k int, a, b Matrix, accumulate bool, c Matrix, count int, compute Compute) error {
	var beta C.float
	if accumulate {
		beta = 1
	}
	// cuBLAS is column-major, where row-major matrices are their transposes:
	// c' = op(b)' op(a)'.
	return check(C.gemm(h.h, op(transB), op(transA), C.int(n), C.int(m), C.int(k),
		C.uintptr_t(b.Pointer), b.kind(), C.int(b.Lead), C.longlong(b.Stride),
		C.uintptr_t(a.Pointer), a.kind(), C.int(a.Lead), C.longlong(a.Stride), beta,
		C.uintptr_t(c.Pointer), c.kind(), C.int(c.Lead), C.longlong(c.Stride), C.int(count), C.int(compute)))
}

func op(transposed bool) C.int {
	if transposed {
		return C.CUBLAS_OP_T
	}
	return C.CUBLAS_OP_N
}

func (m Matrix) kind() C.int {
	if m.BF16 {
		return C.CUDA_R_16BF
	}
	return C.CUDA_R_32F
}

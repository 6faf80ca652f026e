// Package gemm multiplies float32 matrices on the calling goroutine.
//
// Its kernels are Go's assembly for AVX2 and AVX-512, written by the generator in asm.
// Where the processor has neither, a BLAS library is opened at run time if there is one
// (OpenBLAS), and else gonum's portable product serves. PIXPRO_BLAS names a library to
// use instead of any of these, and PIXPRO_BLAS=go leaves libraries alone.
//
// Callers split work over goroutines themselves: a library is told to use one
// thread, since it can't know how a convolution is best divided.
package gemm

import (
	"fmt"
	"os"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// Mul computes C = op(A) op(B), or C += op(A) op(B) if accumulate is set, with
// all matrices row-major:
//
//	op(A) is m x k: A itself (lda >= k), or the transpose of a k x m matrix (lda >= m) if transA
//	op(B) is k x n: B itself (ldb >= n), or the transpose of an n x k matrix (ldb >= k) if transB
//	C     is m x n (ldc >= n)
//
// A slice that is too short for its shape panics: that is a programmer's error.
func Mul(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	checkMatrix("A", a, m, k, lda, transA)
	checkMatrix("B", b, k, n, ldb, transB)
	checkMatrix("C", c, m, n, ldc, false)
	if k == 0 {
		if !accumulate {
			for i := range m {
				clear(c[i*ldc : i*ldc+n])
			}
		}
		return
	}
	active().mul(transA, transB, m, n, k, a, lda, b, ldb, accumulate, c, ldc)
}

// checkMatrix panics unless s holds the rows x cols matrix, or its transpose.
func checkMatrix(name string, s []float32, rows, cols, stride int, transposed bool) {
	if transposed {
		rows, cols = cols, rows
	}
	if rows < 0 || cols < 0 || stride < cols || (rows > 0 && cols > 0 && len(s) < (rows-1)*stride+cols) {
		panic(fmt.Sprintf("gemm: %s: %d x %d with stride %d does not fit a slice of %d", name, rows, cols, stride, len(s)))
	}
}

type mulFunc func(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int)

type implementation struct {
	name    string
	mul     mulFunc
	kernels *Kernels
}

// chosen waits for the first use: a library starts threads that spin for a
// while, which programs that multiply nothing should not pay for.
var chosen = sync.OnceValues(choose)

func active() implementation {
	impl, _ := chosen()
	return impl
}

// Portable is the Name of the implementation without vector instructions.
const Portable = "gonum"

// Name says which implementation is in use.
func Name() string { return active().name }

// LibraryError says why no BLAS library is in use, nil if one is or none was
// wanted.
func LibraryError() error {
	_, err := chosen()
	return err
}

func choose() (implementation, error) {
	assembly := levels()
	wanted := os.Getenv("PIXPRO_BLAS")
	if len(assembly) > 0 && (wanted == "" || wanted == "go") {
		return assembly[0], nil
	}
	if wanted != "go" {
		lib, err := openLibrary(wanted)
		if err == nil {
			return lib, nil
		}
		if len(assembly) > 0 {
			return assembly[0], err
		}
		return portable, err
	}
	return portable, nil
}

// portable is the implementation that needs nothing.
var portable = ofProduct(Portable, mulGonum)

// ofProduct is an implementation whose kernels are whole products of large tiles.
func ofProduct(name string, mul mulFunc) implementation {
	return implementation{name, mul, &Kernels{MR: 96, NR: 256, Regular: true, mul: mul}}
}

// ofKernels is an implementation whose products are made of tiles.
func ofKernels(name string, k Kernels) implementation {
	return implementation{name, k.tiled, &k}
}

func mulGonum(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int) {
	var beta float32
	if accumulate {
		beta = 1
	}
	gonum.Implementation{}.Sgemm(transposeFlag(transA), transposeFlag(transB), m, n, k, 1, a, lda, b, ldb, beta, c, ldc)
}

func transposeFlag(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}

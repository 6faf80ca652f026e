//go:build (linux || darwin) && !android && (amd64 || arm64)

package gemm

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/dl"
)

// openLibrary opens a BLAS, the wanted one or what it finds, and proves it on a small
// product.
func openLibrary(wanted string) (implementation, error) {
	names := []string{"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.dylib"}
	if wanted != "" {
		names = []string{wanted}
	}
	lib, err := dl.Open(names...)
	if err != nil {
		return implementation{}, fmt.Errorf("no BLAS library: %w", err)
	}
	sgemm, err := lib.Symbol("sgemm_")
	if err != nil {
		return implementation{}, err
	}
	if kind, err := lib.Symbol("openblas_get_parallel"); err == nil {
		if r, _, _ := purego.SyscallN(kind); int32(r) != openblasPthreads {
			return implementation{}, fmt.Errorf("%s is an OpenBLAS built without threads or with OpenMP: calls from several goroutines are wrong or differ from run to run; install the build with pthreads (Debian: libopenblas0-pthread), or name it by PIXPRO_BLAS", lib.Name)
		}
	}
	if setThreads, err := lib.Symbol("openblas_set_num_threads"); err == nil {
		purego.SyscallN(setThreads, 1)
	}
	if symbol, err := lib.Symbol("openblas_get_corename"); err == nil && wanted == "" {
		var coreName func() string
		purego.RegisterFunc(&coreName, symbol)
		if err := slowCore(lib.Name, coreName(), cpu.Assembly()); err != nil {
			return implementation{}, err
		}
	}
	impl := ofProduct(lib.Name, fortran(sgemm))
	if err := prove(impl.mul); err != nil {
		return implementation{}, fmt.Errorf("%s: %w", lib.Name, err)
	}
	return impl, nil
}

// openblasPthreads is what openblas_get_parallel gives for builds whose calls may
// come from any thread and are told for all of them to use one. Those without
// threads (0) share buffers between calls, and OpenMP's (2) know one thread for
// the thread that says so alone.
const openblasPthreads = 1

// oldCores are the x86 processors without AVX2 by OpenBLAS's names for them.
var oldCores = []string{
	"Generic", "Katmai", "Coppermine", "Northwood", "Prescott", "Banias", "Core2", "Penryn", "Dunnington", "Atom", "Nehalem", "Sandybridge",
	"Athlon", "Opteron", "Opteron_SSE3", "Barcelona", "Bobcat", "Bulldozer", "Piledriver", "Steamroller", "Nano",
}

// slowCore is an error if OpenBLAS takes the processor for one that lacks vector
// instructions which this package uses: a processor that is newer than the
// library. Its products then take three times as long as the package's own.
func slowCore(library, core string, level cpu.Level) error {
	if level == cpu.Generic || !slices.Contains(oldCores, core) {
		return nil
	}
	better := "Haswell"
	if level >= cpu.AVX512 {
		better = "SkylakeX"
	}
	return fmt.Errorf("%s does not know this processor, takes it for a %s and is slow: install a newer OpenBLAS, or try OPENBLAS_CORETYPE=%s", library, core, better)
}

// fortranArguments is what the Fortran interface wants pointers to. It lives
// on the heap so that its address stays while the library reads it.
type fortranArguments struct {
	transA, transB         byte
	m, n, k, lda, ldb, ldc int32
	alpha, beta            float32
}

var argumentPool = sync.Pool{New: func() any { return &fortranArguments{alpha: 1} }}

// fortran wraps the routine SGEMM of the reference BLAS. It is column-major:
// a row-major C = op(A) op(B) is its C' = op(B)' op(A)', the operands swapped.
func fortran(sgemm uintptr) mulFunc {
	return func(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int) {
		if max(m, n, k, lda, ldb, ldc) > math.MaxInt32 {
			panic("gemm: a dimension does not fit the 32 bits of a BLAS")
		}
		args := argumentPool.Get().(*fortranArguments)
		args.transA, args.transB = transposeByte(transB), transposeByte(transA)
		args.m, args.n, args.k = int32(n), int32(m), int32(k)
		args.lda, args.ldb, args.ldc = int32(ldb), int32(lda), int32(ldc)
		args.beta = 0
		if accumulate {
			args.beta = 1
		}
		purego.SyscallN(sgemm,
			uintptr(unsafe.Pointer(&args.transA)), uintptr(unsafe.Pointer(&args.transB)),
			uintptr(unsafe.Pointer(&args.m)), uintptr(unsafe.Pointer(&args.n)), uintptr(unsafe.Pointer(&args.k)),
			uintptr(unsafe.Pointer(&args.alpha)),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&args.lda)),
			uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(&args.ldb)),
			uintptr(unsafe.Pointer(&args.beta)),
			uintptr(unsafe.Pointer(unsafe.SliceData(c))), uintptr(unsafe.Pointer(&args.ldc)),
			1, 1) // lengths of the two character arguments
		runtime.KeepAlive(a)
		runtime.KeepAlive(b)
		runtime.KeepAlive(c)
		argumentPool.Put(args)
	}
}

func transposeByte(t bool) byte {
	if t {
		return 'T'
	}
	return 'N'
}

// prove checks a library on products of small integers, which float32 holds
// exactly: builds of some libraries give wrong results on some processors,
// and one with 64-bit integers reads our arguments wrongly.
func prove(mul mulFunc) error {
	const m, n, k = 37, 29, 53
	a, b := make([]float32, m*k), make([]float32, k*n)
	for i := range a {
		a[i] = float32(i*7%11 - 5)
	}
	for i := range b {
		b[i] = float32(i*5%13 - 6)
	}
	for flags := range 8 {
		transA, transB, accumulate := flags&1 != 0, flags&2 != 0, flags&4 != 0
		lda, ldb := k, n
		if transA {
			lda = m
		}
		if transB {
			ldb = k
		}
		c := make([]float32, m*n)
		for i := range c {
			c[i] = float32(i % 3)
		}
		mul(transA, transB, m, n, k, a, lda, b, ldb, accumulate, c, n)
		for i := range m {
			for j := range n {
				var want float32
				if accumulate {
					want = float32((i*n + j) % 3)
				}
				for p := range k {
					x, y := a[index(i, p, lda, transA)], b[index(p, j, ldb, transB)]
					want += x * y
				}
				if c[i*n+j] != want {
					return fmt.Errorf("a small matrix product is wrong (%v for %v): not used", c[i*n+j], want)
				}
			}
		}
	}
	return nil
}

// index is the place of element (row, col) of op(X) in X.
func index(row, col, stride int, transposed bool) int {
	if transposed {
		return col*stride + row
	}
	return row*stride + col
}

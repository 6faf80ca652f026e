//go:build cuda

package cuda

/*
#include <stdint.h>
#include <cuda.h>
#define MAX_PARAMETERS 24

static CUresult launch(uintptr_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, uintptr_t stream, uint64_t *slots, int n) {
  void *parameters[MAX_PARAMETERS];
  for (int i = 0; i < n; i++) parameters[i] = slots + i;
  return cuLaunchKernel((CUfunction)f, gx, gy, gz, bx, by, 1, 0, (CUstream)stream, parameters, 0);
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// allocPinned returns host memory that asynchronous copies may read; cu has no
// call for it that Go can use.
func allocPinned(bytes int64) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	if status := C.cuMemHostAlloc(&p, C.size_t(bytes), 0); status != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("%d KiB of pinned memory: %s", bytes>>10, errorName(status))
	}
	return p, nil
}

// errorName is the driver's name of an error.
func errorName(status C.CUresult) string {
	var name *C.char
	if C.cuGetErrorName(status, &name) != C.CUDA_SUCCESS {
		return fmt.Sprintf("CUDA error %d", int(status))
	}
	return C.GoString(name)
}

// launchError is the error of a launch, cu.OutOfMemory if it found no memory.
func launchError(status C.CUresult) error {
	if status == C.CUDA_ERROR_OUT_OF_MEMORY {
		return fmt.Errorf("launch: %w", error(cu.OutOfMemory))
	}
	return fmt.Errorf("launch, or work before it: %s", errorName(status))
}

// maxParameters is how many a kernel may have: MAX_PARAMETERS above.
const maxParameters = C.MAX_PARAMETERS

// launchKernel starts a kernel. Each parameter is a slot of eight bytes, of
// which a parameter of four takes the lower ones. cu's own launch writes
// pointers into memory that it got from malloc, whose old content can look to
// Go's garbage collector like a broken pointer.
func launchKernel(f cu.Function, grid [3]int, block [2]int, stream cu.Stream, slots []uint64) error {
	status := C.launch(*(*C.uintptr_t)(unsafe.Pointer(&f)), C.uint(grid[0]), C.uint(grid[1]), C.uint(grid[2]), C.uint(block[0]), C.uint(block[1]),
		C.uintptr_t(uintptr(unsafe.Pointer(stream.C()))), (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(slots))), C.int(len(slots)))
	if status != C.CUDA_SUCCESS {
		return launchError(status)
	}
	return nil
}

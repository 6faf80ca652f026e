//go:build cuda

package cuda

// #include <cuda.h>
// #cgo linux CFLAGS: -I/usr/local/cuda/include
import "C"

import (
	"fmt"
	"unsafe"
)

// pinned is host memory that asynchronous copies may read; cu has no call for
// it that Go can use.
func allocPinned(bytes int64) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	if status := C.cuMemHostAlloc(&p, C.size_t(bytes), 0); status != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("%d MiB of pinned memory: CUDA error %d", bytes>>20, int(status))
	}
	return p, nil
}

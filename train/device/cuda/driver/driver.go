//go:build cuda

package driver

/*
#cgo LDFLAGS: -ldl
#include "driver.h"
*/
import "C"

import (
	"fmt"
	"os"
	"path/filepath"
)

// The package is initialised before gorgonia.org/cu, in the order of import
// paths, and depends on nothing that that one does not.
func init() {
	if why := problem(); why != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(os.Args[0]), why)
		os.Exit(1)
	}
}

// problem says why there is no driver or no card, "" if there are both.
func problem() string {
	if why := C.GoString(C.pixpro_driver_failure()); why != "" {
		return fmt.Sprintf("NVIDIA's driver is not there (%s): install it; in a container, run it with NVIDIA's container toolkit (--gpus all)", why)
	}
	status := C.pixpro_driver_start()
	if status == 0 {
		return ""
	}
	name := fmt.Sprintf("CUDA error %d", int(status))
	if text := C.GoString(C.pixpro_driver_error_name(status)); text != "" {
		name = text
	}
	return fmt.Sprintf("NVIDIA's driver finds no card that it can use (%s): see nvidia-smi, and CUDA_VISIBLE_DEVICES", name)
}

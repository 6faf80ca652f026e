//go:build !((linux || darwin) && !android && (amd64 || arm64))

package gemm

import "errors"

// openLibrary finds none on this platform.
func openLibrary(string) (implementation, error) {
	return implementation{}, errors.New("BLAS libraries are not opened on this system")
}

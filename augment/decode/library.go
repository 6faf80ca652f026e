package decode

import (
	"os"
	"sync"
)

// turboJPEG is libjpeg-turbo, opened at its first use: nil where there is none,
// with the reason, or nil and no reason where none was wanted.
var turboJPEG = sync.OnceValues(func() (*turboLibrary, error) {
	if os.Getenv("PIXPRO_JPEG") == "go" {
		return nil, nil
	}
	return openTurboJPEG()
})

// JPEG names the JPEG decoder in use: the shared library of libjpeg-turbo with
// the generation of its interface, or "Go image/jpeg". The environment variable
// PIXPRO_JPEG names another library, or "go" for none.
func JPEG() string {
	if library, _ := turboJPEG(); library != nil {
		return library.name
	}
	return "Go image/jpeg"
}

// LibraryError says why libjpeg-turbo is not in use, nil if it is or if it was
// not wanted.
func LibraryError() error {
	_, err := turboJPEG()
	return err
}

// turboWarning is what libjpeg-turbo finds wrong with an image that it decoded
// nevertheless.
type turboWarning string

func (w turboWarning) Error() string { return string(w) }

// turboFormat is TurboJPEG's number of a pixel format.
type turboFormat uintptr

// Pixel formats (enum TJPF).
const (
	turboRGB  turboFormat = 0
	turboCMYK turboFormat = 11
)

// bytes is the size of a pixel.
func (f turboFormat) bytes() int {
	if f == turboCMYK {
		return 4
	}
	return 3
}

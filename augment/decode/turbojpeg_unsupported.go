//go:build !((linux || darwin) && !android && (amd64 || arm64))

package decode

import "errors"

// turboLibrary is never opened on this platform.
type turboLibrary struct{ name string }

func openTurboJPEG() (*turboLibrary, error) {
	return nil, errors.New("shared libraries cannot be opened at run time on this platform")
}

func (t *turboLibrary) decompress(data, pix []byte, format turboFormat, width, height, divisor int) error {
	return errors.ErrUnsupported
}

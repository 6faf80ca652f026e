//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package lock

import (
	"errors"
	"os"
)

// lockFile is for systems with locks that others can see.
func lockFile(*os.File) error { return errors.ErrUnsupported }

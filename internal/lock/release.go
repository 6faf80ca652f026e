//go:build !windows

package lock

import (
	"errors"
	"io/fs"
	"os"
)

// release removes the file while the lock is held, so that nobody can have
// locked it: see try.
func release(f *os.File) error {
	err := os.Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // the output was removed or renamed
	}
	return errors.Join(err, f.Close())
}

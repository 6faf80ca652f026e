//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of a file, and fails with errHeld if another open file
// has it.
func lockFile(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return errHeld
		case unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK, unix.EINVAL:
			return errors.Join(errors.ErrUnsupported, err)
		default:
			return err
		}
	}
}

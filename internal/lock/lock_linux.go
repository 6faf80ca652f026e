package lock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of a file, and fails with errHeld if another open file
// has it. flock can be local to a machine where the file system is shared, as
// NFS is by some of its mount options; locks of byte ranges are the server's.
func lockFile(f *os.File) error {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.NFS_SUPER_MAGIC {
		return lockRange(f)
	}
	err := retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if none(err) {
		return lockRange(f)
	}
	return outcome(err)
}

// lockRange locks by fcntl, for the open file and not, as POSIX's own do, for
// the process.
func lockRange(f *os.File) error {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	return outcome(retry(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &whole) }))
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// none says whether an error is that of a file system without such locks.
func none(err error) bool {
	return err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.ENOLCK || err == unix.EINVAL
}

func outcome(err error) error {
	switch {
	case err == unix.EAGAIN || err == unix.EACCES:
		return errHeld
	case none(err):
		return errors.Join(errors.ErrUnsupported, err)
	}
	return err
}

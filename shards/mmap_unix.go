//go:build unix

package shards

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the file into memory, read-only, and says what it is.
func mapFile(path string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	switch size := info.Size(); {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a file", path)
	case size == 0:
		return nil, info, nil // the system refuses to map nothing
	case size > math.MaxInt:
		return nil, nil, fmt.Errorf("%s has %d bytes: too many to map", path, size)
	default:
		data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		for err == unix.EINTR {
			data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("map %s: %w", path, err)
		}
		return data, info, nil
	}
}

func unmapFile(data []byte) error {
	if data == nil {
		return nil
	}
	return unix.Munmap(data)
}

// forget tells the system that the process needs data[from:to] no more, so
// that reading a large file once does not fill memory. The content stays
// readable. It is advice: nothing depends on its success.
func forget(data []byte, from, to int) {
	page := os.Getpagesize()
	from -= from % page
	to -= to % page
	if from < to {
		_ = unix.Madvise(data[from:to], unix.MADV_DONTNEED)
	}
}

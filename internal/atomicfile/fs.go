package atomicfile

import (
	"errors"
	"io"
	"os"
	"runtime"
)

// FS is what writing needs of a file system. Tests put one in place of OS
// whose n-th operation fails.
type FS interface {
	Create(path string) (Handle, error) // an empty file, whatever was there
	Append(path string) (Handle, error) // a file that is there, at its end
	Rename(from, to string) error       // replaces what is at to
	Remove(path string) error
	RemoveAll(path string) error // a folder with all that is in it, if it is there
	MkdirAll(path string) error
	// SyncDir makes renames in the folder survive a loss of power.
	SyncDir(path string) error
}

// Handle is a file open for writing.
type Handle interface {
	io.WriteCloser
	Sync() error // flushes to the device
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Create(path string) (Handle, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	return &osHandle{File: f}, nil
}

func (osFS) Append(path string) (Handle, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// osHandle has the system write to the device while the program still writes
// to the file, so that flushing it in the end takes less time.
type osHandle struct {
	*os.File
	written, begun int64
}

// writebackBytes are the bytes after which writing to the device begins.
const writebackBytes = 8 << 20

func (h *osHandle) Write(p []byte) (int, error) {
	n, err := h.File.Write(p)
	if h.written += int64(n); h.written-h.begun >= writebackBytes {
		beginWriteback(h.File, h.begun, h.written-h.begun)
		h.begun = h.written
	}
	return n, err
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(path string) error     { return os.Remove(path) }
func (osFS) RemoveAll(path string) error  { return os.RemoveAll(path) }
func (osFS) MkdirAll(path string) error   { return os.MkdirAll(path, 0o777) }

func (osFS) SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Package atomicfile writes files that appear under their name only when they
// are complete.
//
// The bytes go to NAME.tmp in the same folder. Commit flushes them to the
// device, renames the file to NAME and flushes the folder, so that after a
// crash at any moment NAME holds either what it held before or all of the new
// content. A temporary file that a killed process left behind is overwritten
// by the next one; a path therefore has one writer at a time.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// FS writes files. The zero value writes them to the operating system's file
// system; a Fault is for tests.
type FS struct {
	// Fault, if not nil, is asked before each operation that changes something
	// ("create", "write", "sync", "rename", "mkdir", "remove", "syncdir"). If it
	// returns an error the operation fails with that; a write then writes half
	// of its bytes, as on a full disk.
	Fault func(op, path string) error
}

func (fs FS) fault(op, path string) error {
	if fs.Fault == nil {
		return nil
	}
	return fs.Fault(op, path)
}

// File is a file being written. Write to it, then Commit; Close without
// Commit discards it.
type File struct {
	fs   FS
	f    *os.File
	path string
}

// Create starts writing the file at path.
func Create(path string) (*File, error) { return FS{}.Create(path) }

// Create starts writing the file at path.
func (fs FS) Create(path string) (*File, error) {
	if err := fs.fault("create", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	return &File{fs: fs, f: f, path: path}, nil
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	if f.f == nil {
		return 0, fmt.Errorf("write %s: %w", f.path, os.ErrClosed)
	}
	if fault := f.fs.fault("write", f.path); fault != nil {
		n, err := f.f.Write(p[:len(p)/2])
		return n, errors.Join(fault, err)
	}
	return f.f.Write(p)
}

// Commit makes the file appear under its name. Whether it fails or not, the
// file is closed afterwards; when it fails the old content is still there.
func (f *File) Commit() error {
	if f.f == nil {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	err := f.fs.fault("sync", f.path)
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	name := f.f.Name()
	err = f.f.Close()
	f.f = nil
	if err == nil {
		err = f.fs.rename(name, f.path)
	}
	if err != nil {
		return errors.Join(err, f.fs.remove(name))
	}
	return f.fs.syncDir(filepath.Dir(f.path))
}

// Close discards the file unless it was committed. It may be called more than
// once.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	name := f.f.Name()
	err := f.f.Close()
	f.f = nil
	return errors.Join(err, f.fs.remove(name))
}

// WriteFile writes data to the file at path.
func WriteFile(path string, data []byte) error { return FS{}.WriteFile(path, data) }

// WriteFile writes data to the file at path.
func (fs FS) WriteFile(path string, data []byte) error {
	f, err := fs.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Commit()
}

// RenameDir gives a folder whose files are flushed its final name, which must
// be free, and flushes the folder that it lies in.
func RenameDir(from, to string) error { return FS{}.RenameDir(from, to) }

// RenameDir gives a folder whose files are flushed its final name, which must
// be free, and flushes the folder that it lies in.
func (fs FS) RenameDir(from, to string) error {
	if err := fs.syncDir(from); err != nil {
		return err
	}
	if err := fs.rename(from, to); err != nil {
		return err
	}
	return fs.syncDir(filepath.Dir(to))
}

// MkdirAll makes a folder and those above it.
func (fs FS) MkdirAll(path string) error {
	if err := fs.fault("mkdir", path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o777)
}

// RemoveAll removes a folder with all that is in it, if it is there.
func (fs FS) RemoveAll(path string) error {
	if err := fs.fault("remove", path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

func (fs FS) rename(from, to string) error {
	if err := fs.fault("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (fs FS) remove(path string) error {
	if err := fs.fault("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// syncDir makes a rename in the folder survive a loss of power.
func (fs FS) syncDir(dir string) error {
	if err := fs.fault("syncdir", dir); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

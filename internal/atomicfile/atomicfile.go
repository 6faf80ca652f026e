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

// File is a file being written. Write to it, then Commit; Close without
// Commit discards it.
type File struct {
	f    *os.File
	path string
}

// Create starts writing the file at path.
func Create(path string) (*File, error) {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	return &File{f: f, path: path}, nil
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	if f.f == nil {
		return 0, fmt.Errorf("write %s: %w", f.path, os.ErrClosed)
	}
	return f.f.Write(p)
}

// Commit makes the file appear under its name. Whether it fails or not, the
// file is closed afterwards; when it fails the old content is still there.
func (f *File) Commit() error {
	if f.f == nil {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	if err := f.f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	name := f.f.Name()
	if err := f.f.Close(); err != nil {
		f.f = nil
		return errors.Join(err, os.Remove(name))
	}
	f.f = nil
	if err := os.Rename(name, f.path); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return syncDir(filepath.Dir(f.path))
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
	return errors.Join(err, os.Remove(name))
}

// WriteFile writes data to the file at path.
func WriteFile(path string, data []byte) error {
	f, err := Create(path)
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
func RenameDir(from, to string) error {
	if err := syncDir(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// syncDir makes a rename in the folder survive a loss of power.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

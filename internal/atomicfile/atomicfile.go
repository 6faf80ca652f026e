// Package atomicfile writes files that appear under their name only when they
// are complete.
//
// The bytes go to NAME.tmp in the same folder. Commit flushes them to the
// device, renames the file to NAME and flushes the folder, so that after a
// crash at any moment NAME holds either what it held before or all of the new
// content. A temporary file that a killed process left behind is overwritten
// by the next one; a path therefore has one writer at a time, which WriteTo sees
// to.
package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-436d2970/pixpro/internal/event"
	"github.com/seed-436d2970/pixpro/internal/lock"
)

// TempSuffix follows the final name in the name of a file that is not complete.
const TempSuffix = ".tmp"

// File is a file being written. Write to it, then Commit; Close without
// Commit discards it.
type File struct {
	fsys FS
	f    Handle // nil once closed
	path string
}

// Create starts writing the file at path.
func Create(path string) (*File, error) { return CreateOn(OS, path) }

// CreateOn is Create on another file system.
func CreateOn(fsys FS, path string) (*File, error) {
	f, err := fsys.Create(path + TempSuffix)
	if err != nil {
		return nil, err
	}
	return &File{fsys: fsys, f: f, path: path}, nil
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
	err := f.f.Close()
	f.f = nil
	if err == nil {
		err = f.fsys.Rename(f.path+TempSuffix, f.path)
	}
	if err != nil {
		return errors.Join(err, f.fsys.Remove(f.path+TempSuffix))
	}
	return f.fsys.SyncDir(filepath.Dir(f.path))
}

// Close discards the file unless it was committed. It may be called more than
// once.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return errors.Join(err, f.fsys.Remove(f.path+TempSuffix))
}

// WriteFile writes data to the file at path.
func WriteFile(path string, data []byte) error { return WriteFileOn(OS, path, data) }

// WriteFileOn is WriteFile on another file system.
func WriteFileOn(fsys FS, path string, data []byte) error {
	f, err := CreateOn(fsys, path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Commit()
}

// MakeDir makes a folder, with those that it lies in, such that it survives a loss
// of power, also if it is there already, since whoever made it may have been
// killed before that was certain. Where the folder that it lies in may not be read,
// that cannot be.
func MakeDir(fsys FS, path string) error {
	var in []string // folders that get a new one
	for dir := filepath.Clean(path); ; {
		_, err := os.Stat(dir)
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			break
		}
		in = append(in, parent)
		dir = parent
	}
	err := fsys.MkdirAll(path)
	if err == nil && len(in) == 0 {
		if err = fsys.SyncDir(filepath.Dir(filepath.Clean(path))); errors.Is(err, fs.ErrPermission) {
			err = nil
		}
	}
	for _, dir := range in {
		if err == nil {
			err = fsys.SyncDir(dir)
		}
	}
	return err
}

// RenameDir gives a folder whose files are flushed its final name, which must
// be free, and flushes the folder that it lies in.
func RenameDir(fsys FS, from, to string) error {
	if err := fsys.SyncDir(from); err != nil {
		return err
	}
	if err := fsys.Rename(from, to); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(to))
}

// WriteTo writes a file that appears when it is complete. A link's target is
// written; what is no regular file, such as a device, is written as it is. A
// file that somebody else writes so is an error of class *lock.HeldError.
func WriteTo(path string, content func(io.Writer) error) error {
	return WriteToWhenFree(context.Background(), path, 0, nil, content)
}

// WriteToWhenFree is WriteTo that waits for somebody else to end.
func WriteToWhenFree(ctx context.Context, path string, wait time.Duration, l event.Listener, content func(io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(content(f), f.Close())
	}
	held, err := lock.File(ctx, path, wait, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := content(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit()
}

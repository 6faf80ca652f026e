// Package atomicfiletest has a file system that fails, and one that loses what
// was not flushed, for tests of programs that write by package atomicfile.
package atomicfiletest

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// ErrInjected is the error of the operations that fail.
var ErrInjected = errors.New("injected")

// FS is the system's file system until the FailAt-th operation, which fails; a
// write that fails has written half, as on a full disk. It has one user at a
// time.
type FS struct {
	FailAt int  // counted from 1; 0 never fails
	Stays  bool // nothing works after the failure

	Operations []string // all that were asked for
	Failed     string   // the first that failed, empty if none did
}

var _ atomicfile.FS = (*FS)(nil)

// step counts an operation and says whether it fails.
func (f *FS) step(operation, path string) error {
	name := operation + " " + filepath.Base(path)
	f.Operations = append(f.Operations, name)
	done := len(f.Operations)
	if done == f.FailAt || f.Stays && f.Failed != "" {
		if f.Failed == "" {
			f.Failed = name
		}
		return fmt.Errorf("%s: %w", name, ErrInjected)
	}
	return nil
}

func (f *FS) Create(path string) (atomicfile.Handle, error) {
	if err := f.step("create", path); err != nil {
		return nil, err
	}
	h, err := atomicfile.OS.Create(path)
	return &handle{Handle: h, fs: f, path: path}, err
}

func (f *FS) Append(path string) (atomicfile.Handle, error) {
	if err := f.step("append to", path); err != nil {
		return nil, err
	}
	h, err := atomicfile.OS.Append(path)
	return &handle{Handle: h, fs: f, path: path}, err
}

func (f *FS) Rename(from, to string) error {
	if err := f.step("rename", from); err != nil {
		return err
	}
	return atomicfile.OS.Rename(from, to)
}

func (f *FS) Remove(path string) error {
	if err := f.step("remove", path); err != nil {
		return err
	}
	return atomicfile.OS.Remove(path)
}

func (f *FS) RemoveAll(path string) error {
	if err := f.step("remove", path); err != nil {
		return err
	}
	return atomicfile.OS.RemoveAll(path)
}

func (f *FS) MkdirAll(path string) error {
	if err := f.step("mkdir", path); err != nil {
		return err
	}
	return atomicfile.OS.MkdirAll(path)
}

func (f *FS) SyncDir(path string) error {
	if err := f.step("sync folder", path); err != nil {
		return err
	}
	return atomicfile.OS.SyncDir(path)
}

type handle struct {
	atomicfile.Handle
	fs   *FS
	path string
}

func (h *handle) Write(p []byte) (int, error) {
	if err := h.fs.step("write", h.path); err != nil {
		n, _ := h.Handle.Write(p[:len(p)/2])
		return n, err
	}
	return h.Handle.Write(p)
}

func (h *handle) Sync() error {
	if err := h.fs.step("sync", h.path); err != nil {
		return err
	}
	return h.Handle.Sync()
}

// Close always closes, so that a test leaves no files open.
func (h *handle) Close() error {
	return errors.Join(h.fs.step("close", h.path), h.Handle.Close())
}

// Package atomicfiletest has a file system that fails, for tests of programs
// that write by package atomicfile.
package atomicfiletest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// ErrInjected is the error of the operations that fail.
var ErrInjected = errors.New("injected")

// FS is the system's file system until the FailAt-th operation, which fails; a
// write that fails has written half, as on a full disk. It has one user at a
// time.
type FS struct {
	FailAt   int  // counted from 1; 0 never fails
	PowerCut bool // nothing works after the failure, and LoseUnflushed loses data

	Operations []string // all that were asked for
	Failed     string   // the first that failed, empty if none did

	dirty map[string]bool // files with content that was not flushed
}

var _ atomicfile.FS = (*FS)(nil)

// step counts an operation and says whether it fails.
func (f *FS) step(operation, path string) error {
	name := operation + " " + filepath.Base(path)
	f.Operations = append(f.Operations, name)
	done := len(f.Operations)
	if done == f.FailAt || f.PowerCut && f.Failed != "" {
		if f.Failed == "" {
			f.Failed = name
		}
		return fmt.Errorf("%s: %w", name, ErrInjected)
	}
	return nil
}

// move changes the names of what was not flushed below from; an empty to
// forgets it.
func (f *FS) move(from, to string) {
	for path, dirty := range f.dirty {
		rest, below := strings.CutPrefix(path, from)
		if !below || rest != "" && rest[0] != filepath.Separator {
			continue
		}
		delete(f.dirty, path)
		if to != "" {
			f.dirty[to+rest] = dirty
		}
	}
}

func (f *FS) Create(path string) (atomicfile.Handle, error) {
	if err := f.step("create", path); err != nil {
		return nil, err
	}
	h, err := atomicfile.OS.Create(path)
	if f.dirty == nil {
		f.dirty = map[string]bool{}
	}
	f.dirty[path] = true
	return &handle{Handle: h, fs: f, path: path}, err
}

func (f *FS) Rename(from, to string) error {
	if err := f.step("rename", from); err != nil {
		return err
	}
	f.move(from, to)
	return atomicfile.OS.Rename(from, to)
}

func (f *FS) Remove(path string) error {
	if err := f.step("remove", path); err != nil {
		return err
	}
	f.move(path, "")
	return atomicfile.OS.Remove(path)
}

func (f *FS) RemoveAll(path string) error {
	if err := f.step("remove", path); err != nil {
		return err
	}
	f.move(path, "")
	return atomicfile.OS.RemoveAll(path)
}

func (f *FS) MkdirAll(path string) error {
	if err := f.step("mkdir", path); err != nil {
		return err
	}
	return atomicfile.OS.MkdirAll(path)
}

// SyncDir only counts: LoseUnflushed stands for the disk.
func (f *FS) SyncDir(path string) error { return f.step("sync folder", path) }

// LoseUnflushed leaves what a disk has after the power is cut.
func (f *FS) LoseUnflushed() error {
	var errs []error
	for path, dirty := range f.dirty {
		if dirty {
			errs = append(errs, os.Truncate(path, 0))
		}
	}
	return errors.Join(errs...)
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
	h.fs.dirty[h.path] = true
	return h.Handle.Write(p)
}

func (h *handle) Sync() error {
	if err := h.fs.step("sync", h.path); err != nil {
		return err
	}
	h.fs.dirty[h.path] = false
	return nil
}

// Close always closes, so that a test leaves no files open.
func (h *handle) Close() error {
	return errors.Join(h.fs.step("close", h.path), h.Handle.Close())
}

package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// folderSource is a folder of images.
type folderSource struct {
	root    string
	exclude string // folder that is left out
}

// list lists the files below the root, following links except those that
// lead back to a folder they lie in.
func (s *folderSource) list(ctx context.Context) (*contents, error) {
	info, err := os.Stat(s.root)
	if err != nil {
		return nil, err
	}
	w := &walker{ctx: ctx, root: s.root}
	if w.exclude, err = os.Stat(s.exclude); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := w.walk("", []fs.FileInfo{info}); err != nil {
		return nil, err
	}
	return &w.out, nil
}

type walker struct {
	ctx     context.Context
	root    string
	exclude fs.FileInfo // nil: nothing to leave out
	out     contents
}

// walk lists the folder with the given key, whose own path is above.
func (w *walker) walk(dir string, above []fs.FileInfo) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			info, err := os.Stat(w.path(key))
			if err != nil {
				w.out.add(file{key: key, fault: faultLink}, "")
				continue
			}
			mode = info.Mode()
		}
		switch {
		case mode.IsRegular():
			w.out.add(file{key: key}, folderClass(key))
		case mode.IsDir():
			info, err := os.Stat(w.path(key))
			if err != nil {
				return err
			}
			if w.exclude != nil && os.SameFile(info, w.exclude) {
				continue
			}
			if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				w.out.skipped++
				continue
			}
			if err := w.walk(key, append(above, info)); err != nil {
				return err
			}
		default:
			w.out.skipped++ // a pipe would block whoever opens it
		}
	}
	return nil
}

func (w *walker) path(key string) string { return filepath.Join(w.root, filepath.FromSlash(key)) }

func (s *folderSource) open(f *file) (io.ReadCloser, int64, error) {
	r, err := os.Open(filepath.Join(s.root, filepath.FromSlash(f.key)))
	if err != nil {
		return nil, 0, err
	}
	info, err := r.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return &folderFile{File: r, info: info}, info.Size(), nil
}

func (s *folderSource) unchanged() error { return nil } // every file looks for itself
func (s *folderSource) Close() error     { return nil }

// folderFile is a file that notices at its end if it was written to.
type folderFile struct {
	*os.File
	info fs.FileInfo
}

func (f *folderFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err == io.EOF {
		now, statErr := f.Stat()
		if statErr != nil {
			return n, statErr
		}
		if now.Size() != f.info.Size() || !now.ModTime().Equal(f.info.ModTime()) {
			return n, errChanged(f.Name())
		}
	}
	return n, err
}

func errChanged(name string) error { return fmt.Errorf("%s changed while it was read", name) }

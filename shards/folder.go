package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/seed-436d2970/pixpro/internal/filetree"
)

// folderSource is a folder of images.
type folderSource struct {
	root    string
	exclude string // folder that is left out
}

// list lists the files below the root, following links except those that
// lead back to a folder they lie in.
func (s *folderSource) list(ctx context.Context) (*contents, error) {
	exclude, err := os.Stat(s.exclude)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := &contents{}
	return out, filetree.Walk(ctx, s.root, exclude, func(key string, kind filetree.Kind) {
		switch kind {
		case filetree.File:
			out.add(file{key: key}, folderClass(key))
		case filetree.Dangling:
			out.add(file{key: key, fault: faultLink}, "")
		default:
			out.skipped++
		}
	})
}

func (s *folderSource) open(f *file) (io.ReadCloser, int64, error) {
	r, err := os.Open(filetree.Path(s.root, f.key))
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

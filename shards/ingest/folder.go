package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/seed-436d2970/pixpro/internal/filetree"
)

func init() {
	Register("folder", Kind{
		Help:   "the first folder below it that an image lies in is its class",
		Detect: func(in *Input) bool { return in.Archive == nil },
		Last:   true,
		Open: func(_ context.Context, in *Input) (Source, error) {
			if in.Archive != nil {
				return nil, fmt.Errorf("%s is not a folder", in.Path)
			}
			return &folderSource{root: in.Path, exclude: in.Exclude}, nil
		},
	})
}

// folderSource is a folder of images.
type folderSource struct {
	root    string
	exclude string // folder that is left out
}

// List lists the files below the root, following links except those that
// lead back to a folder they lie in.
func (s *folderSource) List(ctx context.Context) (*Contents, error) {
	exclude, err := os.Stat(s.exclude)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := &Contents{}
	return out, filetree.Walk(ctx, s.root, exclude, func(key string, kind filetree.Kind) {
		switch kind {
		case filetree.File:
			out.Add(File{Key: key}, FolderClass(key))
		case filetree.Dangling:
			out.Add(File{Key: key, Fault: FaultLink}, "")
		default:
			out.Skipped++
		}
	})
}

func (s *folderSource) Open(f *File) (io.ReadCloser, int64, error) {
	r, err := os.Open(filetree.Path(s.root, f.Key))
	if err != nil {
		return nil, 0, err
	}
	info, err := r.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return &folderFile{File: r, info: info}, info.Size(), nil
}

func (s *folderSource) Unchanged() error { return nil } // every file looks for itself
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
			return n, &ChangedError{Name: f.Name()}
		}
	}
	return n, err
}

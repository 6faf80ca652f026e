package shards

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
)

// zipSource is a zip of images.
type zipSource struct {
	*archive
	files []*zip.File
}

func (s *zipSource) list(ctx context.Context) (*contents, error) {
	r, err := zip.NewReader(s.archive, s.size)
	if err != nil {
		return nil, s.damaged(err)
	}
	s.files = r.File
	out := &contents{}
	for i, f := range s.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key := archiveKey(f.Name)
		switch {
		case f.Mode().IsDir():
		case strings.HasPrefix(key, "__MACOSX/"), !f.Mode().IsRegular():
			out.skipped++
		default:
			out.add(file{key: key, at: int64(i), size: int64(min(f.UncompressedSize64, math.MaxInt64))}, folderClass(key))
		}
	}
	return out, s.labelByMap(out)
}

// labelByMap gives the files the labels of NAME_map.txt beside NAME.zip, as
// the published implementation keeps them.
func (s *zipSource) labelByMap(c *contents) error {
	name := strings.TrimSuffix(s.path, ".zip") + "_map.txt"
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	labels, err := readLabels(name)
	if err != nil {
		return err
	}
	if err := labels.apply(c); err != nil {
		return err
	}
	c.unusedLabels = labels.unused()
	return nil
}

func (s *zipSource) open(f *file) (io.ReadCloser, int64, error) {
	const encrypted = 1
	z := s.files[f.at]
	if z.Flags&encrypted != 0 {
		return nil, 0, &rejectError{reason: "is encrypted"}
	}
	r, err := z.Open()
	if err != nil {
		return nil, 0, s.fileError(err)
	}
	return &zipFile{ReadCloser: r, source: s, left: f.size}, f.size, nil
}

// fileError tells what is wrong with one file from a disk that fails.
func (s *zipSource) fileError(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) {
		return err
	}
	if errors.Is(err, zip.ErrAlgorithm) {
		return &rejectError{reason: "is compressed by other means than deflate, which is not supported"}
	}
	return &rejectError{reason: fmt.Sprintf("damaged in the zip: %v", err)}
}

// zipFile is a file of a zip that has no more bytes than the zip says.
type zipFile struct {
	io.ReadCloser
	source *zipSource
	left   int64
}

func (f *zipFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.left -= int64(n); f.left < 0 {
		err = errors.New("is longer than the zip says")
	}
	if err != nil && err != io.EOF {
		err = f.source.fileError(err)
	}
	return n, err
}

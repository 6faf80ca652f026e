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
	return labels.apply(c)
}

func (s *zipSource) open(f *file) (io.ReadCloser, int64, error) {
	const encrypted = 1
	z := s.files[f.at]
	if z.Flags&encrypted != 0 {
		return nil, 0, &rejectError{"is encrypted"}
	}
	// No deflate stream gives more; memory for the claim is taken before reading.
	const mostDeflated, slack = 1032, 1 << 10
	if z.CompressedSize64 > uint64(s.size) || z.UncompressedSize64 > z.CompressedSize64*mostDeflated+slack {
		return nil, 0, &rejectError{fmt.Sprintf("damaged in the zip: %d bytes cannot come from %d in a zip of %d", z.UncompressedSize64, z.CompressedSize64, s.size)}
	}
	r, err := z.Open()
	if err != nil {
		return nil, 0, s.fileError(err)
	}
	return &zipFile{ReadCloser: r, source: s}, int64(min(z.UncompressedSize64, math.MaxInt64)), nil
}

// fileError tells what is wrong with one file from a disk that fails.
func (s *zipSource) fileError(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) {
		return err
	}
	return &rejectError{fmt.Sprintf("damaged in the zip: %v", err)}
}

type zipFile struct {
	io.ReadCloser
	source *zipSource
}

func (f *zipFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = f.source.fileError(err)
	}
	return n, err
}

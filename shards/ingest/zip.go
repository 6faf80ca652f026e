package ingest

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
)

func init() {
	Register("zip", Kind{
		Help: "such a folder in a zip; labels from NAME_map.txt beside NAME.zip, if there",
		Detect: func(in *Input) bool {
			return bytes.HasPrefix(in.Head, []byte("PK\x03\x04")) || bytes.HasPrefix(in.Head, []byte("PK\x05\x06"))
		},
		Open: func(_ context.Context, in *Input) (Source, error) {
			return &zipSource{Archive: in.Archive}, in.NeedArchive("zip")
		},
	})
}

// zipSource is a zip of images.
type zipSource struct {
	*Archive
	files []*zip.File
}

func (s *zipSource) List(ctx context.Context) (*Contents, error) {
	r, err := zip.NewReader(s.Archive, s.size)
	if err != nil {
		return nil, s.damaged(err)
	}
	s.files = r.File
	// Entries that share bytes would make of a small file as many large ones as it
	// has entries, and of the time to read them its square.
	left := uint64(s.size)
	for _, f := range s.files {
		if f.CompressedSize64 > left {
			return nil, s.damaged(errors.New("its entries claim more bytes than it has"))
		}
		left -= f.CompressedSize64
	}
	out := &Contents{}
	for i, f := range s.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key := archiveKey(f.Name)
		switch {
		case f.Mode().IsDir():
		case strings.HasPrefix(key, "__MACOSX/"), !f.Mode().IsRegular():
			out.Skipped++
		default:
			out.Add(File{Key: key, At: int64(i), Size: int64(min(f.UncompressedSize64, math.MaxInt64))}, FolderClass(key))
		}
	}
	return out, s.labelByMap(out)
}

// labelByMap gives the files the labels of NAME_map.txt beside NAME.zip, as
// the published implementation keeps them.
func (s *zipSource) labelByMap(c *Contents) error {
	name := strings.TrimSuffix(s.path, ".zip") + "_map.txt"
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	labels, err := ReadLabels(name)
	if err != nil {
		return err
	}
	if err := labels.Apply(c); err != nil {
		return err
	}
	c.UnusedLabels = labels.Unused()
	return nil
}

func (s *zipSource) Open(f *File) (io.ReadCloser, int64, error) {
	const encrypted = 1
	z := s.files[f.At]
	if z.Flags&encrypted != 0 {
		return nil, 0, &RejectError{Reason: "is encrypted"}
	}
	r, err := z.Open()
	if err != nil {
		return nil, 0, s.fileError(err)
	}
	return &zipFile{ReadCloser: r, source: s, left: f.Size}, f.Size, nil
}

// fileError tells what is wrong with one file from a disk that fails.
func (s *zipSource) fileError(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) {
		return err
	}
	if errors.Is(err, zip.ErrAlgorithm) {
		return &RejectError{Reason: "is compressed by other means than deflate, which is not supported"}
	}
	return &RejectError{Reason: fmt.Sprintf("damaged in the zip: %v", err)}
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

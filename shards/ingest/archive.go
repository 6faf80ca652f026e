package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// FS is what compressed inputs are decompressed through; tests fail its n-th
// operation.
type FS = atomicfile.FS

// openArchive opens an input file. Shards are written in an order that is not
// the archive's, so a compressed one is decompressed into the file scratch
// first: its images can then be read at any place.
func openArchive(ctx context.Context, fsys FS, path, scratch string) (*Archive, error) {
	if fsys == nil {
		fsys = atomicfile.OS
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a := &Archive{File: f, path: path, info: info, size: info.Size(), remove: fsys.Remove}
	plain, err := decompressor(f, info.Size())
	if err != nil {
		return nil, errors.Join(a.damaged(err), f.Close())
	}
	if plain == nil {
		return a, nil
	}
	defer plain.Close()
	defer f.Close()
	if err := fsys.MkdirAll(filepath.Dir(scratch)); err != nil {
		return nil, err
	}
	if a.size, err = spool(ctx, fsys, scratch, plain); err != nil {
		return nil, errors.Join(a.damaged(err), fsys.Remove(scratch))
	}
	a.scratch = scratch
	if a.File, err = os.Open(scratch); err != nil {
		return nil, errors.Join(err, fsys.Remove(scratch))
	}
	return a, nil
}

// decompressor returns a reader of what is compressed in f, nil if nothing is.
func decompressor(f io.ReadSeeker, size int64) (io.ReadCloser, error) {
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	const gzipMagic, zstdMagic, zstdSkippable = 0x8b1f, 0xfd2fb528, 0x184d2a5
	number := binary.LittleEndian.Uint32(magic[:])
	switch {
	case uint16(number) == gzipMagic:
		return gzip.NewReader(f)
	case number == zstdMagic, number>>4 == zstdSkippable:
		d, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(maxZstdWindow(size)))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, nil
}

// maxZstdWindow is the largest window that a file of so many bytes may ask
// for: 8 MiB, what every decoder must grant, and for large files up to 128 MiB,
// what zstd --long does.
func maxZstdWindow(size int64) uint64 {
	return uint64(min(max(8<<20, size), 128<<20))
}

// spool writes what r gives to a new file.
func spool(ctx context.Context, fsys FS, path string, r io.Reader) (size int64, err error) {
	f, err := fsys.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, readErr := r.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return size, fmt.Errorf("decompress to %s: %w", path, err)
		}
		size += int64(n)
		if readErr == io.EOF {
			return size, nil
		}
		if size > 0 && (errors.Is(readErr, gzip.ErrHeader) || errors.Is(readErr, zstd.ErrMagicMismatch)) {
			return size, fmt.Errorf("what follows the compressed data, %d bytes decompressed, is not compressed: if it is not needed, decompress the file by gzip -dc or zstd -dc and shard the result", size)
		}
		if readErr != nil {
			return size, fmt.Errorf("after %d decompressed bytes: %w", size, readErr)
		}
	}
}

// Archive is an input file, decompressed where it was compressed.
type Archive struct {
	*os.File
	path    string      // of the input
	info    fs.FileInfo // of the input when it was opened
	size    int64       // decompressed
	scratch string      // file to remove in the end, or ""
	remove  func(string) error
}

// Len is the number of bytes, decompressed.
func (a *Archive) Len() int64 { return a.size }

// Close closes the file, and removes it where it was decompressed for this.
func (a *Archive) Close() error {
	err := a.File.Close()
	if a.scratch != "" {
		removeErr := a.remove(a.scratch)
		if !errors.Is(removeErr, fs.ErrNotExist) { // the end of the run removed it
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// Unchanged fails if the input file is no longer the one that was opened.
func (a *Archive) Unchanged() error {
	now, err := os.Stat(a.path)
	if err != nil {
		return err
	}
	if now.Size() != a.info.Size() || !now.ModTime().Equal(a.info.ModTime()) {
		return &ChangedError{Name: a.path}
	}
	return nil
}

// damaged wraps the error of an archive that cannot be listed.
func (a *Archive) damaged(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s is damaged or cut short: %w", a.path, err)
}

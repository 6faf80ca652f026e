package weights

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"github.com/seed-436d2970/pixpro/internal/pickle"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// readZip reads the format of torch 1.6 and later: a zip archive, nothing in
// it compressed, with ROOT/data.pkl and a file ROOT/data/KEY for each storage.
func readZip(data []byte) ([]safetensors.Tensor, error) {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	files := map[string]*zip.File{}
	root := ""
	for _, f := range archive.File {
		files[f.Name] = f
		if dir, name := path.Split(f.Name); name == "data.pkl" && root == "" {
			root = dir
		}
	}
	program, ok := files[root+"data.pkl"]
	if !ok {
		return nil, fmt.Errorf("%w: a zip archive, but without the data.pkl of torch.save", ErrFormat)
	}
	text, err := stored(data, program)
	if err != nil {
		return nil, err
	}
	if order, ok := files[root+"byteorder"]; ok {
		if b, err := stored(data, order); err != nil || string(b) != "little" {
			return nil, fmt.Errorf("%w: not written on a little-endian machine", ErrFormat)
		}
	}
	p, _, err := pickle.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%w: data.pkl: %w", ErrFormat, err)
	}
	opened := map[string][]byte{}
	s := &storages{gather: int64(len(data)), find: func(key string, _ safetensors.DType) (b []byte, err error) {
		if b, ok := opened[key]; ok {
			return b, nil
		}
		f, ok := files[root+"data/"+key]
		if !ok {
			return nil, fmt.Errorf("no storage %q", key)
		}
		opened[key], err = stored(data, f)
		return opened[key], err
	}}
	return s.stateDict(p.Value)
}

// stored returns an entry's bytes in the file: torch compresses nothing, so
// that nothing larger than the file can come out of it.
func stored(data []byte, f *zip.File) ([]byte, error) {
	begin, err := f.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrFormat, f.Name, err)
	}
	switch size := f.UncompressedSize64; {
	case f.Method != zip.Store || f.CompressedSize64 != size:
		err = errors.New("compressed, which torch.save never does")
	case begin > int64(len(data)) || size > uint64(int64(len(data))-begin):
		err = errors.New("cut short")
	default:
		b := data[begin : begin+int64(size) : begin+int64(size)]
		if crc32.ChecksumIEEE(b) == f.CRC32 {
			return b, nil
		}
		err = zip.ErrChecksum
	}
	return nil, fmt.Errorf("%w: %q: %w", ErrFormat, f.Name, err)
}

package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the published limit of the header's length in bytes.
const maxHeader = 100_000_000

// ErrFormat is the class of errors for a file that breaks the format's rules:
// damaged, cut short, or never a safetensors file.
var ErrFormat = errors.New("not a sound safetensors file")

// File is the content of a safetensors file, wholly in memory.
type File struct {
	tensors  []Tensor
	index    map[string]int // name to position in tensors
	metadata map[string]string
}

// Names returns the tensors' names in the order of their data.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Tensor returns the tensor of that name. Its data belongs to the file and
// must not be changed.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Metadata returns the header's free-form pairs, nil if it has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Read reads a file whole. Errors for a file that breaks the format's rules
// are ErrFormat.
func Read(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("safetensors: read %s: not a regular file", path)
	}
	file, err := read(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("safetensors: read %s: %w", path, err)
	}
	return file, nil
}

// Parse reads a file that is in memory already. The tensors' data is a copy.
func Parse(data []byte) (*File, error) {
	f, err := read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

// read reads a file of the given, true size.
func read(r io.Reader, size int64) (*File, error) {
	var length [8]byte
	if size < int64(len(length)) {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, size)
	}
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	rest := size - int64(len(length))
	if n > maxHeader || int64(n) > rest {
		return nil, fmt.Errorf("%w: a header of %d bytes in a file of %d", ErrFormat, n, size)
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	file, ranges, err := parseHeader(head)
	if err == nil {
		err = file.arrange(ranges, rest-int64(n))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}

	data := make([]byte, rest-int64(n))
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	for i := range file.tensors {
		t := &file.tensors[i]
		span := ranges[t.Name]
		t.Data = data[span.begin:span.end:span.end]
	}
	return file, nil
}

// span is a tensor's range of bytes, counted from the end of the header.
type span struct{ begin, end int64 }

// arrange puts the tensors into the order of their data, and checks that their
// ranges cover size bytes exactly and that each fits its dtype and shape.
func (f *File) arrange(ranges map[string]span, size int64) error {
	slices.SortStableFunc(f.tensors, func(a, b Tensor) int {
		x, y := ranges[a.Name], ranges[b.Name]
		return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end))
	})
	f.index = make(map[string]int, len(f.tensors))
	var end int64
	for i, t := range f.tensors {
		r := ranges[t.Name]
		if r.begin != end || r.end < r.begin || r.end > size {
			return fmt.Errorf("tensor %q: data_offsets [%d,%d], but the data before it ends at %d and all data at %d",
				t.Name, r.begin, r.end, end, size)
		}
		need, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if need != r.end-r.begin {
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] hold %d bytes, but %s%v needs %d",
				t.Name, r.begin, r.end, r.end-r.begin, t.DType, t.Shape, need)
		}
		end = r.end
		f.index[t.Name] = i
	}
	if end != size {
		return fmt.Errorf("the tensors end at byte %d of %d", end, size)
	}
	return nil
}

// parseHeader reads the JSON header. encoding/json's struct decoding would let
// duplicate keys, nulls, missing numbers and keys in the wrong case pass, so
// the header is read token by token.
func parseHeader(head []byte) (*File, map[string]span, error) {
	if len(head) == 0 || head[0] != '{' {
		return nil, nil, errors.New("the header does not begin with {")
	}
	if !utf8.Valid(head) {
		return nil, nil, errors.New("the header is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	dec.UseNumber()
	file := &File{}
	ranges := map[string]span{}
	err := readObject(dec, func(key string) (err error) {
		if key == metadataKey {
			file.metadata, err = readMetadata(dec)
			return err
		}
		t := Tensor{Name: key}
		if ranges[key], err = readTensor(dec, &t); err != nil {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
		file.tensors = append(file.tensors, t)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, errors.New("header: something follows the JSON object")
	}
	return file, ranges, nil
}

// readTensor reads a tensor's entry of the header.
func readTensor(dec *json.Decoder, t *Tensor) (span, error) {
	var offsets []int64
	found := 0
	err := readObject(dec, func(key string) (err error) {
		found++
		switch key {
		case "dtype":
			var s string
			s, err = readString(dec)
			t.DType = DType(s)
		case "shape":
			t.Shape, err = readIntegers[int](dec)
		case "data_offsets":
			offsets, err = readIntegers[int64](dec)
		default:
			// As in the reference implementation, further keys mean nothing.
			found--
			var ignored json.RawMessage
			err = dec.Decode(&ignored)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return span{}, err
	}
	if found != 3 || len(offsets) != 2 {
		return span{}, errors.New("wants dtype, shape and two data_offsets")
	}
	return span{offsets[0], offsets[1]}, nil
}

func readMetadata(dec *json.Decoder) (map[string]string, error) {
	metadata := map[string]string{}
	err := readObject(dec, func(key string) (err error) {
		metadata[key], err = readString(dec)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", metadataKey, err)
	}
	return metadata, nil
}

// readObject reads a JSON object. value is called after each key and must
// read what the key stands for.
func readObject(dec *json.Decoder, value func(key string) error) error {
	if err := readDelim(dec, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		key, err := readString(dec)
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q stands there twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return readDelim(dec, '}')
}

// readIntegers reads a list of sizes that T can count.
func readIntegers[T int | int64](dec *json.Decoder) ([]T, error) {
	if err := readDelim(dec, '['); err != nil {
		return nil, err
	}
	list := []T{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%v is not a number", token)
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if err != nil || n < 0 || int64(T(n)) != n {
			return nil, fmt.Errorf("%s is not a size", number)
		}
		list = append(list, T(n))
	}
	return list, readDelim(dec, ']')
}

func readString(dec *json.Decoder) (string, error) {
	token, err := dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("%v is not a string", token)
	}
	return s, nil
}

func readDelim(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v belongs", token, want)
	}
	return nil
}

package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/seed-436d2970/pixpro/internal/pickle"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// ErrFormat is the class of errors for files that are damaged or hold no
// weights that can be read.
var ErrFormat = errors.New("no readable weights")

// The formats that Read knows.
const (
	FormatSafetensors = "safetensors"
	FormatTorch       = "torch zip"
	FormatTorchLegacy = "torch before 1.6"
)

// File is what was read from a file.
type File struct {
	Format string
	// Tensors are in the file's order under the file's names.
	Tensors []safetensors.Tensor
}

// Read reads a file of weights, whatever its name says.
func Read(path string) (*File, error) {
	f, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("weights: read %s: %w", path, err)
	}
	return f, nil
}

func read(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is no regular file (%v)", info.Mode())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(data)
}

// parse tells the formats apart by what they begin with.
func parse(data []byte) (*File, error) {
	switch {
	// First, since its length may look like the beginning of the others; theirs
	// is no length of anything.
	case len(data) > 8 && data[8] == '{' && binary.LittleEndian.Uint64(data) < uint64(len(data)):
		f, err := safetensors.Parse(data)
		if err != nil {
			return nil, err
		}
		out := &File{Format: FormatSafetensors}
		for _, name := range f.Names() {
			t, _ := f.Tensor(name)
			out.Tensors = append(out.Tensors, t)
		}
		return out, nil
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		tensors, err := readZip(data)
		return &File{FormatTorch, tensors}, err
	case len(data) > 1 && data[0] == 0x80:
		tensors, err := readLegacy(data)
		return &File{FormatTorchLegacy, tensors}, err
	}
	return nil, fmt.Errorf("%w: neither safetensors nor a file of torch.save", ErrFormat)
}

// stateDict collects the tensors of a state dict: value itself, or what it has
// under "model" (as in the published implementation) or "state_dict".
func (s *storages) stateDict(value any) ([]safetensors.Tensor, error) {
	dict := asDict(value)
	for _, key := range []string{"model", "state_dict"} {
		if dict != nil && asDict(dict.Get(key)) != nil {
			dict = asDict(dict.Get(key))
		}
	}
	if dict == nil {
		return nil, fmt.Errorf("%w: it holds %s, not a state dict", ErrFormat, describe(value))
	}
	var tensors []safetensors.Tensor
	seen := map[string]bool{}
	for _, item := range dict.Items {
		name, ok := item.Key.(string)
		object := asTensor(item.Value)
		if !ok || object == nil {
			continue
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: %s is there twice", ErrFormat, name)
		}
		seen[name] = true
		t, err := s.tensor(object)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFormat, name, err)
		}
		t.Name = name
		tensors = append(tensors, t)
	}
	if len(tensors) == 0 {
		return nil, fmt.Errorf("%w: its state dict has no tensors", ErrFormat)
	}
	return tensors, nil
}

// asDict returns the entries of a dict or OrderedDict, nil for others.
func asDict(value any) *pickle.Dict {
	switch v := value.(type) {
	case *pickle.Dict:
		return v
	case *pickle.Object:
		if v.Callable == orderedDict {
			return &v.Dict
		}
	}
	return nil
}

// describe names a value's kind.
func describe(value any) string {
	switch v := value.(type) {
	case *pickle.Object:
		if class, ok := v.Callable.(pickle.Global); ok {
			return fmt.Sprintf("an object of %q", class)
		}
	case *pickle.List:
		return "a list"
	}
	return "something else"
}

package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/seed-436d2970/pixpro/internal/pickle"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// The names that mean a tensor in a pickle of torch.save.
var (
	orderedDict      = pickle.Global{Module: "collections", Name: "OrderedDict"}
	rebuildTensor    = pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"}
	rebuildTensorV1  = pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor"}
	rebuildParameter = pickle.Global{Module: "torch._utils", Name: "_rebuild_parameter"}
)

// storageTypes are the classes of module torch that say a storage's elements.
var storageTypes = map[string]safetensors.DType{
	"FloatStorage": safetensors.F32, "DoubleStorage": safetensors.F64,
	"HalfStorage": safetensors.F16, "BFloat16Storage": safetensors.BF16,
	"LongStorage": safetensors.I64, "IntStorage": safetensors.I32, "ShortStorage": safetensors.I16,
	"CharStorage": safetensors.I8, "ByteStorage": safetensors.U8, "BoolStorage": safetensors.Bool,
}

// storage is a run of elements that tensors are windows on.
type storage struct {
	dtype safetensors.DType
	data  []byte
}

// storages finds the storages that a pickle refers to.
type storages struct {
	find func(key string, dtype safetensors.DType) ([]byte, error)
	// gather is how many bytes may still be copied for tensors that do not lie
	// in one piece: no more than the file has in all.
	gather int64
}

// asTensor returns the object that stands for a tensor, nil for other values.
func asTensor(value any) *pickle.Object {
	o, ok := value.(*pickle.Object)
	if !ok {
		return nil
	}
	if o.Callable == rebuildParameter && len(o.Args) > 0 {
		if o, ok = o.Args[0].(*pickle.Object); !ok {
			return nil
		}
	}
	if o.Callable != rebuildTensor && o.Callable != rebuildTensorV1 {
		return nil
	}
	return o
}

var errTensor = errors.New("not a tensor as torch.save writes it")

// tensor reads (storage, offset, size, stride, …).
func (s *storages) tensor(o *pickle.Object) (t safetensors.Tensor, err error) {
	if len(o.Args) < 4 {
		return t, errTensor
	}
	offset, ok := o.Args[1].(int64)
	size, okSize := integers(o.Args[2])
	stride, okStride := integers(o.Args[3])
	if !ok || !okSize || !okStride || len(size) != len(stride) || offset < 0 {
		return t, errTensor
	}
	from, err := s.open(o.Args[0])
	if err != nil {
		return t, err
	}
	t = safetensors.Tensor{DType: from.dtype, Shape: make([]int, len(size))}
	for i, n := range size {
		if t.Shape[i] = int(n); int64(t.Shape[i]) != n {
			return t, errTensor
		}
	}
	t.Data, err = s.window(from, offset, size, stride)
	return t, err
}

// open reads ('storage', type, key, device, elements, …).
func (s *storages) open(value any) (from storage, err error) {
	p, _ := value.(pickle.Persistent)
	id, _ := p.ID.(pickle.Tuple)
	if len(id) < 5 || id[0] != "storage" {
		return from, errTensor
	}
	class, _ := id[1].(pickle.Global)
	from.dtype = storageTypes[class.Name]
	if class.Module != "torch" || from.dtype == "" {
		return from, fmt.Errorf("storage of an unknown type %q", class)
	}
	key, ok := id[2].(string)
	if !ok {
		return from, errTensor
	}
	if len(id) > 5 && id[5] != nil {
		return from, errors.New("it lies in a view of another storage: save it again by torch 1.6 or later")
	}
	from.data, err = s.find(key, from.dtype)
	return from, err
}

// window returns the elements of a tensor in row-major order: a part of the
// storage where they lie so, or a copy.
func (s *storages) window(from storage, offset int64, size, stride []int64) ([]byte, error) {
	width := from.dtype.Size()
	available := int64(len(from.data)) / width
	elements, last, contiguous := int64(1), offset, true
	for i := len(size) - 1; i >= 0; i-- {
		n, step := size[i], stride[i]
		if n < 0 || step < 0 {
			return nil, errTensor
		}
		if n == 0 {
			return nil, nil
		}
		if n > 1 {
			contiguous = contiguous && step == elements
			if step > math.MaxInt64/n || last > math.MaxInt64-step*(n-1) {
				return nil, errTensor
			}
			last += step * (n - 1)
		}
		// A tensor of more elements than its storage repeats them.
		if elements > available/n {
			return nil, fmt.Errorf("a tensor of size %v on a storage of %d elements", size, available)
		}
		elements *= n
	}
	if last >= available {
		return nil, fmt.Errorf("size %v, stride %v, offset %d go beyond a storage of %d elements", size, stride, offset, available)
	}
	if contiguous {
		return from.data[offset*width : (offset+elements)*width : (offset+elements)*width], nil
	}
	if s.gather -= elements * width; s.gather < 0 {
		return nil, errors.New("the file has more bytes in tensors that share storages than it has bytes")
	}
	out := make([]byte, 0, elements*width)
	index := make([]int64, len(size))
	for range elements {
		at := offset
		for i, n := range index {
			at += n * stride[i]
		}
		out = append(out, from.data[at*width:(at+1)*width]...)
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < size[i] {
				break
			}
			index[i] = 0
		}
	}
	return out, nil
}

func integers(value any) ([]int64, bool) {
	if o, ok := value.(*pickle.Object); ok && o.Callable == (pickle.Global{Module: "torch", Name: "Size"}) && len(o.Args) == 1 {
		value = o.Args[0]
	}
	t, ok := value.(pickle.Tuple)
	if !ok || len(t) > 16 {
		return nil, false
	}
	list := make([]int64, len(t))
	for i, v := range t {
		if list[i], ok = v.(int64); !ok {
			return nil, false
		}
	}
	return list, true
}

// The first two pickles of a legacy file.
const (
	legacyMagic   = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" // 0x1950a86a20f9469cfc6c
	legacyVersion = 1001
)

// readLegacy reads the format of torch before 1.6: pickles of a magic number,
// a version, facts about the system, the value, and the storages' keys; then,
// in the order of the keys, each storage's number of elements and bytes.
func readLegacy(data []byte) ([]safetensors.Tensor, error) {
	var parts [5]pickle.Pickle
	rest := data
	for i := range parts {
		var err error
		if parts[i], rest, err = pickle.Read(rest); err != nil {
			return nil, fmt.Errorf("%w: part %d: %w", ErrFormat, i+1, err)
		}
		if i == 0 && parts[0].Value != pickle.Long(legacyMagic) {
			return nil, fmt.Errorf("%w: a pickle, but not one of torch.save", ErrFormat)
		}
	}
	if parts[1].Value != int64(legacyVersion) {
		return nil, fmt.Errorf("%w: an unknown version of the format", ErrFormat)
	}
	if system := asDict(parts[2].Value); system != nil && system.Get("little_endian") == false {
		return nil, fmt.Errorf("%w: written on a big-endian machine", ErrFormat)
	}
	keys, ok := parts[4].Value.(*pickle.List)
	if !ok {
		return nil, fmt.Errorf("%w: no list of storages", ErrFormat)
	}
	// Where a storage lies depends on the sizes of those before it, and so on
	// the types that the value refers to them by.
	types := map[string]safetensors.DType{}
	s := &storages{find: func(key string, dtype safetensors.DType) ([]byte, error) {
		types[key] = dtype
		return nil, nil
	}}
	for _, p := range parts[3].Persistent {
		if _, err := s.open(p); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
	found := map[string][]byte{}
	for _, item := range keys.Items {
		key, ok := item.(string)
		dtype := types[key]
		if !ok || dtype == "" || found[key] != nil || len(rest) < 8 {
			return nil, fmt.Errorf("%w: the list of storages does not fit what follows", ErrFormat)
		}
		n := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if n > uint64(len(rest))/uint64(dtype.Size()) {
			return nil, fmt.Errorf("%w: storage %q is cut short", ErrFormat, key)
		}
		size := int(n) * int(dtype.Size())
		found[key], rest = rest[:size:size], rest[size:]
	}
	s = &storages{gather: int64(len(data)), find: func(key string, _ safetensors.DType) ([]byte, error) {
		b, ok := found[key]
		if !ok {
			return nil, fmt.Errorf("no storage %q", key)
		}
		return b, nil
	}}
	return s.stateDict(parts[3].Value)
}

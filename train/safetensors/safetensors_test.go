package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/golden"
)

// raw builds a file from a literal header, which may lie, and n bytes of data.
func raw(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func readBytes(b []byte) (*File, error) { return read(bytes.NewReader(b), int64(len(b))) }

func example() []Tensor {
	return []Tensor{
		New("encoder.conv1.weight", []int{2, 1, 1, 2}, []float32{1, -2, 0.5, float32(math.Inf(1))}),
		New("a <scalar> & \"quotes\"", nil, []float64{math.Pi}),
		New("image", []int{1, 3}, []uint8{0, 128, 255}),
		New("empty", []int{0, 7}, []float32{}),
		New("num_batches_tracked", []int{}, []int64{math.MinInt64}),
	}
}

func TestWriteAndRead(t *testing.T) {
	metadata := map[string]string{"format": "pt", "a": "ä\n"}
	var b bytes.Buffer
	if err := Write(&b, example(), metadata); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(b.Bytes()); n%8 != 0 {
		t.Errorf("header of %d bytes, not a multiple of 8", n)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(metadata, f.Metadata()); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, want := range example() {
		names = append(names, want.Name)
		got, ok := f.Tensor(want.Name)
		if !ok {
			t.Fatalf("no tensor %q", want.Name)
		}
		if want.Shape == nil {
			want.Shape = []int{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(names, f.Names()); diff != "" {
		t.Error(diff)
	}
	if _, ok := f.Tensor("none"); ok {
		t.Error("a tensor that was not written")
	}
}

// The bytes are part of the contract: other readers and checksums see them.
func TestWriteBytes(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, []Tensor{
		New("b", []int{1}, []float32{1}),
		New("a", []int{2}, []uint8{7, 8}),
	}, map[string]string{"y": "2", "x": "1"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"__metadata__":{"x":"1","y":"2"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}`
	for len(want)%8 != 0 {
		want += " "
	}
	want = string(binary.LittleEndian.AppendUint64(nil, uint64(len(want)))) + want + "\x00\x00\x80\x3f\x07\x08"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"name twice":      {New("a", nil, []uint8{1}), New("a", nil, []uint8{1})},
		"reserved name":   {New(metadataKey, nil, []uint8{1})},
		"name not UTF-8":  {New("\xff", nil, []uint8{1})},
		"shape too small": {New("a", []int{1}, []uint8{1, 2})},
		"shape too large": {New("a", []int{2, 2}, []float32{1, 2})},
		"negative shape":  {New("a", []int{-1, -1}, []uint8{1})},
		"overflow":        {New("a", []int{math.MaxInt, math.MaxInt}, []uint8{})},
		"unknown dtype":   {{Name: "a", DType: "F7"}},
	} {
		var b bytes.Buffer
		if err := Write(&b, tensors, nil); err == nil || b.Len() > 0 {
			t.Errorf("%s: error %v, %d bytes written", name, err, b.Len())
		}
	}
}

func TestFloats(t *testing.T) {
	f32 := New("a", []int{2}, []float32{0.1, -3})
	f64 := New("a", []int{2}, []float64{0.1, -3})
	for _, tensor := range []Tensor{f32, f64} {
		got, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]float32{0.1, -3}, got); diff != "" {
			t.Error(diff)
		}
	}
	wide, err := f32.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{float64(float32(0.1)), -3}, wide); diff != "" {
		t.Error(diff)
	}
	same, err := f64.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{0.1, -3}, same); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []Tensor{New("a", nil, []int64{1}), {Name: "a", DType: F32, Data: make([]byte, 5)}} {
		if _, err := bad.Float32s(); err == nil {
			t.Errorf("%v: no error from Float32s", bad)
		}
		if _, err := bad.Float64s(); err == nil {
			t.Errorf("%v: no error from Float64s", bad)
		}
	}
}

func TestHalfPrecision(t *testing.T) {
	for _, c := range []struct {
		dtype DType
		bits  uint16
		want  float32
	}{
		{F16, 0x3c00, 1}, {F16, 0xc000, -2}, {F16, 0x3555, 0.333251953125}, {F16, 0x7bff, 65504},
		{F16, 0x0001, 0x1p-24}, {F16, 0x83ff, -0x3ffp-24}, {F16, 0x0000, 0}, {F16, 0xfc00, float32(math.Inf(-1))},
		{BF16, 0x3f80, 1}, {BF16, 0xc049, -3.140625}, {BF16, 0x7f80, float32(math.Inf(1))},
	} {
		got, err := Tensor{Name: "a", DType: c.dtype, Shape: []int{1}, Data: []byte{byte(c.bits), byte(c.bits >> 8)}}.Float32s()
		if err != nil || got[0] != c.want {
			t.Errorf("%s %04x is %v (%v), want %v", c.dtype, c.bits, got, err, c.want)
		}
	}
	nan, err := Tensor{DType: F16, Shape: []int{1}, Data: []byte{1, 0x7e}}.Float32s()
	if err != nil || !math.IsNaN(float64(nan[0])) {
		t.Errorf("NaN is %v (%v)", nan, err)
	}
	if _, err := (Tensor{DType: BF16, Data: make([]byte, 3)}).Float32s(); err == nil {
		t.Error("no error for half an element")
	}
}

func TestReadRefuses(t *testing.T) {
	long := binary.LittleEndian.AppendUint64(nil, 1<<60)
	for _, c := range []struct {
		name, says string // says: what the error must name
		file       []byte
	}{
		{"empty file", "0 bytes", nil},
		{"cut in the length", "3 bytes", []byte{1, 0, 0}},
		{"header longer than the file", "header of 99", raw(strings.Repeat(" ", 99), 0)[:60]},
		{"header longer than anything", "header of 1152921504606846976", append(long, "{}"...)},
		{"no header", "begin with {", raw("", 0)},
		{"space first", "begin with {", raw(" {}", 0)},
		{"not JSON", "header", raw("{]", 0)},
		{"cut JSON", "header", raw(`{"a":{"dtype":"U8"`, 0)},
		{"two objects", "follows", raw("{}{}", 0)},
		{"zero bytes as padding", "follows", raw("{}\x00", 0)},
		{"not UTF-8", "UTF-8", raw("{\"\xff\":1}", 0)},
		{"entry not an object", `"a"`, raw(`{"a":3}`, 0)},
		{"name twice", `"a"`, raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"key twice", `"shape"`, raw(`{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}`, 1)},
		{"key in capitals", `"a"`, raw(`{"a":{"DTYPE":"U8","shape":[1],"data_offsets":[0,1]}}`, 1)},
		{"no shape", `"a"`, raw(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1)},
		{"null shape", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}`, 1)},
		{"null in shape", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":[null],"data_offsets":[0,0]}}`, 0)},
		{"quoted size", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}`, 1)},
		{"fraction", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1)},
		{"negative", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, 1)},
		{"more than 64 bits", `"a": shape`, raw(`{"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}}`, 1)},
		{"one offset", `"a"`, raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}`, 0)},
		{"three offsets", `"a"`, raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1)},
		{"unknown dtype", `"a": unknown dtype "F7"`, raw(`{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}`, 1)},
		{"product overflows", `"a"`, raw(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0)},
		{"product overflows by the dtype", `"a"`, raw(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}`, 0)},
		{"shape larger than its range", `"a"`, raw(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8)},
		{"range past the end", `"a"`, raw(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8)},
		{"range backwards", `"b"`, raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,3]}}`, 4)},
		{"hole at the start", `"a"`, raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2)},
		{"hole between", `"b"`, raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3)},
		{"overlap", `"b"`, raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3)},
		{"same range twice", `"b"`, raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2)},
		{"bytes left over", "byte 1 of 2", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2)},
		{"metadata not text", metadataKey, raw(`{"__metadata__":{"a":1}}`, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readBytes(c.file)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want ErrFormat with %q", err, c.says)
			}
		})
	}
}

func TestReadAccepts(t *testing.T) {
	f, err := readBytes(raw(`{"z":{"data_offsets":[1,3],"shape":[1,2],"dtype":"U8","note":{"a":[1]}},"y":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]}}   `, 3))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"y", "e", "z"}, f.Names()); diff != "" {
		t.Errorf("not in the order of the data: %s", diff)
	}
	if z, _ := f.Tensor("z"); !bytes.Equal(z.Data, []byte{1, 2}) {
		t.Errorf("z is %v", z.Data)
	}
	if f, err := readBytes(raw("{}", 0)); err != nil || len(f.Names()) != 0 || f.Metadata() != nil {
		t.Errorf("no tensors: %v, %v", f, err)
	}
}

func TestReadNoSuchFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
}

// The golden files come from the reference implementation. Read and written
// again, the data is the same, and the header says the same.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Path(t, "train"), "*.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d golden files, %v", len(paths), err)
	}
	for _, path := range paths {
		f, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, f.tensors, f.Metadata()); err != nil {
			t.Fatal(err)
		}
		again, err := readBytes(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range f.tensors {
			got := again.tensors[i]
			if got.Name != want.Name || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
				t.Errorf("%s: %q changed", path, want.Name)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data := func(file []byte) []byte { return file[8+binary.LittleEndian.Uint64(file):] }
		if !bytes.Equal(data(want), data(b.Bytes())) {
			t.Errorf("%s: the data written differs from the data read", path)
		}
	}
}

// Whatever is read without an error can be written, and reads the same again.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, example(), map[string]string{"format": "pt"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3))
	f.Add(raw(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0))
	f.Add(raw(strings.Repeat(`{"a":`, 50), 0))
	f.Fuzz(func(t *testing.T, file []byte) {
		first, err := readBytes(file)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("bad bytes gave %v", err)
			}
			return
		}
		var b bytes.Buffer
		if err := Write(&b, first.tensors, first.metadata); err != nil {
			t.Fatal(err)
		}
		again, err := readBytes(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first.tensors, again.tensors); diff != "" {
			t.Fatal(diff)
		}
	})
}

package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-436d2970/pixpro/internal/pickle"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

func encoder() []safetensors.Tensor {
	return []safetensors.Tensor{
		safetensors.New("conv1.weight", []int{2, 1, 1, 2}, []float32{1, -2, 3, 4}),
		safetensors.New("bn1.running_var", []int{2}, []float32{0.5, 0.25}),
		safetensors.New("layer1.0.downsample.1.bias", []int{1}, []float32{7}),
		safetensors.New("layer4.2.bn3.weight", []int{1}, []float32{8}),
	}
}

func written(tb testing.TB, write func(*bytes.Buffer) error) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func torchvisionFile(tb testing.TB) []byte {
	return written(tb, func(b *bytes.Buffer) error { return WriteTorchvision(b, encoder(), 12) })
}

func TestTorchFilesReadBack(t *testing.T) {
	counted := withCounts(encoder(), 12)
	if len(counted) != 5 || counted[2].Name != "bn1.num_batches_tracked" {
		t.Fatalf("with counts: %v", counted)
	}
	f, err := parse(torchvisionFile(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&File{FormatTorch, counted}, f, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("torchvision (-written +read):\n%s", diff)
	}
	f, err = parse(written(t, func(b *bytes.Buffer) error { return WriteFull(b, encoder(), 12, 3) }))
	if err != nil {
		t.Fatal(err)
	}
	for i := range counted {
		counted[i].Name = "module." + counted[i].Name
	}
	if diff := cmp.Diff(&File{FormatTorch, counted}, f, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("full (-written +read):\n%s", diff)
	}
}

func TestTorchStoragesAreAligned(t *testing.T) {
	data := torchvisionFile(t)
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.File {
		if at, err := f.DataOffset(); err != nil || at%archiveAlign != 0 {
			t.Errorf("%s begins at %d (%v)", f.Name, at, err)
		}
	}
}

func TestDetectron2(t *testing.T) {
	p, _, err := pickle.Read(written(t, func(b *bytes.Buffer) error { return WriteDetectron2(b, encoder(), 12) }))
	if err != nil {
		t.Fatal(err)
	}
	dict := p.Value.(*pickle.Dict)
	if dict.Get("__author__") != "PixPro" || dict.Get("matching_heuristics") != true {
		t.Errorf("dict %v", dict.Items[1:])
	}
	var names []string
	for _, item := range dict.Get("model").(*pickle.Dict).Items {
		names = append(names, item.Key.(string))
	}
	want := []string{"stem.conv1.weight", "stem.conv1.norm.running_var", "stem.conv1.norm.num_batches_tracked", "res2.0.shortcut.norm.bias", "res5.2.conv3.norm.weight"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// legacyFile is a file of torch before 1.6 with one tensor, transposed by its
// strides, of a storage of 6 elements that claims to have n.
func legacyFile(tb testing.TB, n uint64, size, stride pickle.Tuple, offset int64) []byte {
	storage := pickle.Persistent{ID: pickle.Tuple{"storage", pickle.Global{Module: "torch", Name: "FloatStorage"}, "77", "cuda:0", int64(6), nil}}
	tensor := &pickle.Object{Callable: rebuildTensor, Args: pickle.Tuple{storage, offset, size, stride, false, nil}}
	value := &pickle.Dict{Items: []pickle.Item{
		{Key: "opt", Value: &pickle.Object{Callable: pickle.Global{Module: "argparse", Name: "Namespace"}}},
		{Key: "model", Value: &pickle.Object{Callable: orderedDict, Dict: pickle.Dict{Items: []pickle.Item{{Key: "module.encoder.w", Value: tensor}}}}},
	}}
	b := bytes.NewBufferString("\x80\x02\x8a\n" + legacyMagic + ".\x80\x02M\xe9\x03.")
	for _, v := range []any{&pickle.Dict{Items: []pickle.Item{{Key: "little_endian", Value: true}}}, value} {
		if err := pickle.Write(b, 2, v); err != nil {
			tb.Fatal(err)
		}
	}
	b.WriteString("\x80\x02]q\x00X\x02\x00\x00\x0077q\x01a.")
	b.Write(binary.LittleEndian.AppendUint64(nil, n))
	b.Write(safetensors.New("", []int{6}, []float32{0, 1, 2, 3, 4, 5}).Data)
	return b.Bytes()
}

func TestLegacy(t *testing.T) {
	for _, c := range []struct {
		name         string
		size, stride pickle.Tuple
		offset       int64
		want         []float32
	}{
		{"whole", pickle.Tuple{int64(2), int64(3)}, pickle.Tuple{int64(3), int64(1)}, 0, []float32{0, 1, 2, 3, 4, 5}},
		{"transposed", pickle.Tuple{int64(3), int64(2)}, pickle.Tuple{int64(1), int64(3)}, 0, []float32{0, 3, 1, 4, 2, 5}},
		{"part", pickle.Tuple{int64(2)}, pickle.Tuple{int64(1)}, 3, []float32{3, 4}},
		{"scalar", pickle.Tuple{}, pickle.Tuple{}, 5, []float32{5}},
		{"empty", pickle.Tuple{int64(0)}, pickle.Tuple{int64(1)}, 0, []float32{}},
	} {
		f, err := parse(legacyFile(t, 6, c.size, c.stride, c.offset))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := f.Tensors[0].Float32s()
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" || f.Tensors[0].Name != "module.encoder.w" || f.Format != FormatTorchLegacy {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	one := func(n int64) pickle.Tuple { return pickle.Tuple{n} }
	good := torchvisionFile(t)
	flipped := bytes.Clone(good)
	flipped[bytes.LastIndex(good, encoder()[0].Data)] ^= 1
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	w, err := z.Create("archive/data.pkl")
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 1<<20))
	z.Close()
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"nothing", nil, "neither"},
		{"text", []byte("hello, world"), "neither"},
		{"cut", good[:len(good)-30], "zip"},
		{"a flipped bit", flipped, "checksum"},
		{"compressed", packed.Bytes(), "compressed"},
		{"another pickle", []byte("\x80\x02N."), "not one of torch.save"},
		{"beyond the storage", legacyFile(t, 6, one(7), one(1), 0), "storage of 6"},
		{"beyond by offset", legacyFile(t, 6, one(2), one(1), 5), "storage of 6"},
		{"beyond by stride", legacyFile(t, 6, one(2), one(6), 0), "storage of 6"},
		{"repeated elements", legacyFile(t, 6, one(1<<40), one(0), 0), "storage of 6"},
		{"stride that overflows", legacyFile(t, 6, one(3), one(1<<62), 0), "module.encoder.w"},
		{"size that overflows", legacyFile(t, 6, pickle.Tuple{int64(1 << 32), int64(1 << 32)}, pickle.Tuple{int64(0), int64(0)}, 0), "storage of 6"},
		{"negative size", legacyFile(t, 6, one(-1), one(1), 0), "module.encoder.w"},
		{"negative offset", legacyFile(t, 6, one(1), one(1), -1), "module.encoder.w"},
		{"sizes without strides", legacyFile(t, 6, one(1), pickle.Tuple{}, 0), "module.encoder.w"},
		{"storage beyond the file", legacyFile(t, 1<<62, one(6), one(1), 0), "cut short"},
	} {
		_, err := parse(c.file)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want ErrFormat with %q", c.name, err, c.says)
		}
	}
}

// The length of a safetensors header is the file's beginning, which may look
// like that of a pickle.
func TestSafetensorsOfEveryHeaderLength(t *testing.T) {
	for n := range 256 {
		var file bytes.Buffer
		name := strings.Repeat("x", n+1)
		if err := safetensors.Write(&file, []safetensors.Tensor{safetensors.New(name, []int{1}, []float32{2})}, nil); err != nil {
			t.Fatal(err)
		}
		f, err := parse(file.Bytes())
		if err != nil {
			t.Errorf("a header of %d bytes: %v", file.Len()-8-4, err)
			continue
		}
		if f.Format != FormatSafetensors || len(f.Tensors) != 1 || f.Tensors[0].Name != name {
			t.Errorf("a header of %d bytes: read %+v", file.Len()-8-4, f)
		}
	}
}

// allocated is the number of bytes that the process has asked for so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Bad bytes give an error of a known class and take no memory beyond a
// multiple of the file's size.
func FuzzRead(f *testing.F) {
	f.Add(torchvisionFile(f))
	f.Add(legacyFile(f, 6, pickle.Tuple{int64(3), int64(2)}, pickle.Tuple{int64(1), int64(3)}, 0))
	f.Add(written(f, func(b *bytes.Buffer) error { return safetensors.Write(b, encoder(), nil) }))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		file, err := parse(data)
		// An operation of a byte may make a value of 200; zip's directory and
		// the fuzzer itself take some.
		if took := allocated() - before; took > 1<<20+1000*uint64(len(data)) {
			t.Fatalf("%d bytes were allocated for a file of %d", took, len(data))
		}
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, safetensors.ErrFormat) {
				t.Fatalf("bad bytes gave %v", err)
			}
			return
		}
		for _, tensor := range file.Tensors {
			elements := int64(1)
			for _, n := range tensor.Shape {
				elements *= int64(n)
			}
			if elements*tensor.DType.Size() != int64(len(tensor.Data)) {
				t.Fatalf("%s of shape %v has %d bytes", tensor.Name, tensor.Shape, len(tensor.Data))
			}
		}
	})
}

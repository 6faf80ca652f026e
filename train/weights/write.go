package weights

import (
	"archive/zip"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/pickle"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// WriteTorchvision writes a state dict of an encoder's tensors, named as
// torchvision names them, in torch's zip format. batches is what each batch
// norm's num_batches_tracked says.
func WriteTorchvision(w io.Writer, encoder []safetensors.Tensor, batches int64) error {
	return writeTorch(w, withCounts(encoder, batches), func(state *pickle.Object) any { return state })
}

// WriteFull writes all of a model's tensors in the layout of the published
// implementation's checkpoints: a dict with "model", whose names begin with
// "module.", and "epoch", the number of epochs done. What it needs to go on
// with training ("optimizer", "scheduler", "opt") is left out, as in the
// published files of weights.
func WriteFull(w io.Writer, model []safetensors.Tensor, batches, epoch int64) error {
	tensors := withCounts(model, batches)
	for i := range tensors {
		tensors[i].Name = "module." + tensors[i].Name
	}
	return writeTorch(w, tensors, func(state *pickle.Object) any {
		return &pickle.Dict{Items: []pickle.Item{{Key: "model", Value: state}, {Key: "epoch", Value: epoch}}}
	})
}

// withCounts adds num_batches_tracked after each running variance, where
// PyTorch has it.
func withCounts(tensors []safetensors.Tensor, batches int64) []safetensors.Tensor {
	var out []safetensors.Tensor
	for _, t := range tensors {
		out = append(out, t)
		if prefix, ok := strings.CutSuffix(t.Name, "running_var"); ok {
			out = append(out, safetensors.New(prefix+"num_batches_tracked", nil, []int64{batches}))
		}
	}
	return out
}

// Of the archive that torch.save writes.
const (
	archiveRoot    = "archive"
	archiveVersion = "3\n"
	// Storages begin at multiples of this, so that they can be mapped; the
	// place before them is filled by an extra field of this id.
	archiveAlign   = 64
	archivePadding = 0x4246 // "FB"
)

// writeTorch writes an archive of a state dict; value says what lies around it.
func writeTorch(w io.Writer, tensors []safetensors.Tensor, value func(state *pickle.Object) any) error {
	state := &pickle.Object{Callable: orderedDict}
	for i, t := range tensors {
		o, err := torchTensor(t, strconv.Itoa(i))
		if err != nil {
			return err
		}
		state.Dict.Items = append(state.Dict.Items, pickle.Item{Key: t.Name, Value: o})
	}
	var program bytes.Buffer
	if err := pickle.Write(&program, 2, value(state)); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	a := archive{zip: zip.NewWriter(w)}
	a.add("data.pkl", program.Bytes())
	a.add("byteorder", []byte("little"))
	for i, t := range tensors {
		a.add("data/"+strconv.Itoa(i), t.Data)
	}
	a.add("version", []byte(archiveVersion))
	if a.err == nil {
		a.err = a.zip.Close()
	}
	if a.err != nil {
		return fmt.Errorf("weights: write archive: %w", a.err)
	}
	return nil
}

// torchTensor is the call that makes a tensor of a storage of its own.
func torchTensor(t safetensors.Tensor, key string) (*pickle.Object, error) {
	class := ""
	for name, dtype := range storageTypes {
		if dtype == t.DType {
			class = name
		}
	}
	if class == "" {
		return nil, fmt.Errorf("weights: tensor %s: torch has no %s", t.Name, t.DType)
	}
	size, stride := pickle.Tuple{}, make(pickle.Tuple, len(t.Shape))
	elements := int64(1)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		stride[i] = elements
		elements *= int64(t.Shape[i])
	}
	for _, n := range t.Shape {
		size = append(size, int64(n))
	}
	storage := pickle.Persistent{ID: pickle.Tuple{"storage", pickle.Global{Module: "torch", Name: class}, key, "cpu", elements}}
	hooks := &pickle.Object{Callable: orderedDict}
	return &pickle.Object{Callable: rebuildTensor, Args: pickle.Tuple{storage, int64(0), size, stride, false, hooks}}, nil
}

// archive writes uncompressed entries and keeps the first error.
type archive struct {
	zip *zip.Writer
	at  int64
	err error
}

// The fixed part of a zip entry's header, and of an extra field.
const zipHeader, zipExtra = 30, 4

func (a *archive) add(name string, data []byte) {
	if a.err != nil {
		return
	}
	name = archiveRoot + "/" + name
	begin := a.at + zipHeader + int64(len(name)) + zipExtra
	padding := (archiveAlign - begin%archiveAlign) % archiveAlign
	extra := make([]byte, zipExtra+padding)
	copy(extra, []byte{archivePadding & 255, archivePadding >> 8, byte(padding), 0})
	w, err := a.zip.CreateRaw(&zip.FileHeader{
		Name: name, Method: zip.Store, Extra: extra, CRC32: crc32.ChecksumIEEE(data),
		CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
	})
	if err == nil {
		_, err = w.Write(data)
	}
	a.at = begin + padding + int64(len(data))
	a.err = err
}

// WriteDetectron2 writes an encoder's tensors under Detectron2's names, as the
// published implementation's converter does: a pickle of a dict with "model",
// numpy arrays by name, "__author__" and "matching_heuristics".
func WriteDetectron2(w io.Writer, encoder []safetensors.Tensor, batches int64) error {
	model := &pickle.Dict{}
	for _, t := range withCounts(encoder, batches) {
		array, err := numpyArray(t)
		if err != nil {
			return err
		}
		model.Items = append(model.Items, pickle.Item{Key: detectron2Name(t.Name), Value: array})
	}
	err := pickle.Write(w, 3, &pickle.Dict{Items: []pickle.Item{
		{Key: "model", Value: model}, {Key: "__author__", Value: "PixPro"}, {Key: "matching_heuristics", Value: true},
	}})
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

// detectron2Name is Detectron2's name for what torchvision calls name:
// stem.conv1.weight, stem.conv1.norm.bias, res2.0.conv3.weight,
// res3.0.shortcut.norm.running_mean, …
func detectron2Name(name string) string {
	if !strings.HasPrefix(name, "layer") {
		name = "stem." + name
	}
	return strings.NewReplacer(
		"layer1", "res2", "layer2", "res3", "layer3", "res4", "layer4", "res5",
		"bn1", "conv1.norm", "bn2", "conv2.norm", "bn3", "conv3.norm",
		"downsample.0", "shortcut", "downsample.1", "shortcut.norm",
	).Replace(name)
}

// numpyArray is the call that makes an array, as numpy itself pickles one.
func numpyArray(t safetensors.Tensor) (*pickle.Object, error) {
	kind, ok := map[safetensors.DType]string{safetensors.F32: "f4", safetensors.F64: "f8", safetensors.I64: "i8"}[t.DType]
	if !ok {
		return nil, fmt.Errorf("weights: tensor %s: no array of %s", t.Name, t.DType)
	}
	shape := pickle.Tuple{}
	for _, n := range t.Shape {
		shape = append(shape, int64(n))
	}
	return &pickle.Object{
		Callable: pickle.Global{Module: "numpy.core.multiarray", Name: "_reconstruct"},
		Args:     pickle.Tuple{pickle.Global{Module: "numpy", Name: "ndarray"}, pickle.Tuple{int64(0)}, pickle.Bytes("b")},
		State: pickle.Tuple{
			int64(1), shape, // version of what follows
			&pickle.Object{
				Callable: pickle.Global{Module: "numpy", Name: "dtype"},
				Args:     pickle.Tuple{kind, false, true},
				// Version, little-endian, no fields, sizes of its own or flags.
				State: pickle.Tuple{int64(3), "<", nil, nil, nil, int64(-1), int64(-1), int64(0)},
			},
			false, // rows first
			pickle.Bytes(t.Data),
		},
	}, nil
}

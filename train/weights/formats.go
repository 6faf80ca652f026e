package weights

import (
	"io"
	"slices"

	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Export is what a file is made of.
type Export struct {
	Tensors []safetensors.Tensor // of an encoder, under torchvision's names, or of a whole model
	Batches int64                // that each batch norm has seen
	Epochs  int64                // done
	// Metadata say in words where the tensors come from.
	Metadata map[string]string
}

// Format is a kind of file that encoders and models are exported to.
type Format struct {
	Name, Help string
	// Whole files have all of a model's tensors, others an encoder's.
	Whole bool
	Write func(w io.Writer, e Export) error
}

// formats are in the order of help.
var formats = []Format{
	{"safetensors", `torchvision's names, without the classifier "fc"`, false, func(w io.Writer, e Export) error {
		return safetensors.Write(w, e.Tensors, e.Metadata)
	}},
	{"torchvision", "a .pth file of the same for torch.load, also with weights_only", false, func(w io.Writer, e Export) error {
		return WriteTorchvision(w, e.Tensors, e.Batches)
	}},
	{"detectron2", "a .pkl file of numpy arrays under Detectron2's names", false, func(w io.Writer, e Export) error {
		return WriteDetectron2(w, e.Tensors, e.Batches)
	}},
	{"full", "a .pth file of all parameters, in the published implementation's layout", true, func(w io.Writer, e Export) error {
		return WriteFull(w, e.Tensors, e.Batches, e.Epochs)
	}},
}

// Formats lists the formats of files that can be written.
func Formats() []Format { return slices.Clone(formats) }

// FormatNames lists their names.
func FormatNames() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.Name)
	}
	return names
}

// LookupFormat finds a format by its name.
func LookupFormat(name string) (f Format, ok bool) {
	if i := slices.IndexFunc(formats, func(f Format) bool { return f.Name == name }); i >= 0 {
		return formats[i], true
	}
	return Format{}, false
}

package train

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
	"github.com/seed-436d2970/pixpro/train/weights"
)

// Branch is one of a checkpoint's two encoders.
type Branch string

// The branches.
const (
	Encoded    Branch = "encoder"     // trained by gradients
	KeyEncoded Branch = "key-encoder" // its moving average
)

// Check returns an *options.Error, of option which, unless b is a branch.
func (b Branch) Check() error {
	if b != Encoded && b != KeyEncoded {
		return &options.Error{Name: "which", Value: string(b), Want: fmt.Sprintf("use %s or %s", Encoded, KeyEncoded)}
	}
	return nil
}

// ExportOptions say what is exported, and to where. Only Checkpoint and Out are
// needed.
type ExportOptions struct {
	Checkpoint string // a checkpoint, or a training output: its latest
	Format     string // see weights.Formats; "": safetensors
	Which      Branch // "": Encoded; formats of whole models have both
	Out        string // file, which appears when it is complete

	Wait time.Duration // for another writer of the file to end; 0: not at all
}

// Validate returns an *options.Error about the first option that cannot be used.
func (o *ExportOptions) Validate() error {
	format, ok := weights.LookupFormat(o.format())
	switch {
	case o.Checkpoint == "":
		return &options.Error{Name: "checkpoint", Want: "name a checkpoint or a training output"}
	case o.Out == "":
		return &options.Error{Name: "out", Want: "name a file to write"}
	case !ok:
		return &options.Error{Name: "format", Value: o.Format, Want: "use one of " + strings.Join(weights.FormatNames(), ", ")}
	case format.Whole && o.Which != "":
		return &options.Error{Name: "which", Value: string(o.Which), Want: "format " + format.Name + " has both encoders"}
	case o.Wait < 0:
		return &options.Error{Name: "wait", Value: o.Wait.String(), Want: "must not be negative"}
	case o.Which != "":
		return o.Which.Check()
	}
	return nil
}

func (o *ExportOptions) format() string {
	if o.Format == "" {
		return "safetensors"
	}
	return o.Format
}

// Export writes an encoder of a checkpoint, or its whole model, for use
// elsewhere. It returns the number of tensors. The listener is told if it waits
// for another writer of the file.
func Export(ctx context.Context, o ExportOptions, l Listener) (int, error) {
	if err := o.Validate(); err != nil {
		return 0, fmt.Errorf("train: export: %w", err)
	}
	w, err := ReadWeights(o.Checkpoint)
	if err != nil {
		return 0, err
	}
	c := w.Checkpoint
	if c == nil {
		return 0, fmt.Errorf("train: export: %s is a file of weights, not a checkpoint", o.Checkpoint)
	}
	format, _ := weights.LookupFormat(o.format())
	e := weights.Export{
		Tensors: w.Tensors, Epochs: c.State.Position.Epoch,
		// A batch norm sees both views of each of a step's batches, one after the other.
		Batches: 2 * c.State.Step * int64(c.Options.Accumulate),
		Metadata: map[string]string{
			"format": "pt", "arch": c.Options.Arch, "stem": c.Options.Stem, "width": fmt.Sprint(c.Options.Width),
			"method": c.Options.Method, "step": fmt.Sprint(c.State.Step),
		},
	}
	if !format.Whole {
		if e.Tensors, err = w.Encoder(o.Which); err != nil {
			return 0, err
		}
	}
	err = atomicfile.WriteToWhenFree(ctx, o.Out, o.Wait, l, func(f io.Writer) error { return format.Write(f, e) })
	if err != nil {
		return 0, fmt.Errorf("train: export: %w", err)
	}
	return len(e.Tensors), nil
}

// Encoder returns the tensors of an encoder under torchvision's names; "" is
// Encoded.
func (w *Weights) Encoder(b Branch) ([]safetensors.Tensor, error) {
	prefix := queryEncoder
	if b == KeyEncoded {
		prefix = keyEncoder
	}
	var tensors []safetensors.Tensor
	for _, t := range w.Tensors {
		if short, ok := strings.CutPrefix(t.Name, prefix); ok {
			t.Name = short
			tensors = append(tensors, t)
		}
	}
	if len(tensors) == 0 {
		return nil, fmt.Errorf("train: %s has no %s…", w.Path, prefix)
	}
	return tensors, nil
}

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/safetensors"
	"github.com/seed-436d2970/pixpro/train/weights"
)

// The formats of "pixpro export".
const (
	formatSafetensors = "safetensors"
	formatTorchvision = "torchvision"
	formatDetectron2  = "detectron2"
	formatFull        = "full"
)

func newExport() *cobra.Command {
	var (
		checkpoint, format, which, out string
		asJSON                         bool
	)
	cmd := &cobra.Command{
		Use:   "export --checkpoint DIR --out FILE",
		Short: "Write the encoder for use elsewhere",
		Long: `Write the encoder of a checkpoint, or of a training output's latest:

  safetensors  torchvision's names, without the classifier "fc"
  torchvision  a .pth file of the same for torch.load, also with weights_only
  detectron2   a .pkl file of numpy arrays under Detectron2's names, as the
               published implementation's converter makes one
  full         a .pth file of all parameters, key encoder and heads included,
               as the published implementation saves them`,
		Example: `  pixpro export --checkpoint run/ --out backbone.safetensors
  pixpro export --checkpoint run/ --format torchvision --out backbone.pth
  pixpro export --checkpoint run/ --format detectron2 --which key-encoder --out backbone.pkl

  # in Python:
  #   model = torchvision.models.resnet50()
  #   model.load_state_dict(torch.load("backbone.pth"), strict=False)  # all but fc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "checkpoint", "out"); err != nil {
				return err
			}
			switch format {
			case formatSafetensors, formatTorchvision, formatDetectron2, formatFull:
			default:
				return usageError{fmt.Errorf("--format %q: use safetensors, torchvision, detectron2 or full", format)}
			}
			if which != "encoder" && which != "key-encoder" {
				return usageError{fmt.Errorf("--which %q: use encoder or key-encoder", which)}
			}
			if format == formatFull && cmd.Flags().Changed("which") {
				return usageError{fmt.Errorf("--which %s: format full has both encoders", which)}
			}
			n, err := export(checkpoint, format, which == "key-encoder", out)
			if err != nil {
				return err
			}
			if format == formatFull {
				which = "model"
			}
			return result(cmd, asJSON, map[string]any{"tensors": n, "out": out}, fmt.Sprintf("%d tensors of the %s at %s\n", n, which, out))
		},
	}
	f := cmd.Flags()
	f.StringVar(&checkpoint, "checkpoint", "", "checkpoint, or training output")
	f.StringVar(&format, "format", formatSafetensors, "format of the file: safetensors, torchvision, detectron2 or full")
	f.StringVar(&which, "which", "encoder", "encoder or key-encoder")
	f.StringVar(&out, "out", "", "file to write")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// export writes an encoder, or all of a model for formatFull, and returns the
// number of its tensors.
func export(path, format string, keys bool, out string) (int, error) {
	w, err := train.ReadWeights(path)
	if err != nil {
		return 0, err
	}
	c, tensors := w.Checkpoint, w.Tensors
	if c == nil {
		return 0, fmt.Errorf("%s is a file of weights, not a checkpoint", path)
	}
	if format != formatFull {
		if tensors, err = w.Encoder(keys); err != nil {
			return 0, err
		}
	}
	return len(tensors), writeFile(out, func(w io.Writer) error {
		// A batch norm sees both views of each of a step's batches, one after the other.
		batches := 2 * c.State.Step * int64(c.Options.Accumulate)
		switch format {
		case formatTorchvision:
			return weights.WriteTorchvision(w, tensors, batches)
		case formatDetectron2:
			return weights.WriteDetectron2(w, tensors, batches)
		case formatFull:
			return weights.WriteFull(w, tensors, batches, c.State.Position.Epoch)
		}
		return safetensors.Write(w, tensors, map[string]string{
			"format": "pt", "arch": c.Options.Arch, "stem": c.Options.Stem, "width": fmt.Sprint(c.Options.Width),
			"method": c.Options.Method, "step": fmt.Sprint(c.State.Step),
		})
	})
}

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/safetensors"
	"github.com/seed-436d2970/pixpro/train"
)

func newExport() *cobra.Command {
	var (
		checkpoint, format, which, out string
		asJSON                         bool
	)
	cmd := &cobra.Command{
		Use:   "export --checkpoint DIR --out FILE",
		Short: "Write the encoder for use elsewhere",
		Long: `Write the encoder of a checkpoint, or of a training output's latest, as
safetensors with torchvision's parameter names, without the classifier "fc".`,
		Example: `  pixpro export --checkpoint run/ --out backbone.safetensors

  # in Python:
  #   model = torchvision.models.resnet50()
  #   model.load_state_dict(safetensors.torch.load_file("backbone.safetensors"), strict=False)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "checkpoint", "out"); err != nil {
				return err
			}
			if format != "safetensors" {
				return usageError{fmt.Errorf("--format %q: use safetensors", format)}
			}
			if which != "encoder" && which != "key-encoder" {
				return usageError{fmt.Errorf("--which %q: use encoder or key-encoder", which)}
			}
			n, err := export(checkpoint, which == "key-encoder", out)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, map[string]any{"tensors": n, "out": out}, fmt.Sprintf("%d tensors of the %s at %s\n", n, which, out))
		},
	}
	f := cmd.Flags()
	f.StringVar(&checkpoint, "checkpoint", "", "checkpoint, or training output")
	f.StringVar(&format, "format", "safetensors", "format of the file: safetensors")
	f.StringVar(&which, "which", "encoder", "encoder or key-encoder")
	f.StringVar(&out, "out", "", "file to write")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// export writes an encoder and returns the number of its tensors.
func export(path string, keys bool, out string) (int, error) {
	c, err := train.OpenCheckpoint(path)
	if err != nil {
		return 0, err
	}
	tensors, err := c.Encoder(keys)
	if err != nil {
		return 0, err
	}
	metadata := map[string]string{
		"format": "pt", "arch": c.Config.Arch, "stem": c.Config.Stem, "width": fmt.Sprint(c.Config.Width),
		"method": c.Config.Method, "step": fmt.Sprint(c.State.Step),
	}
	return len(tensors), writeFile(out, func(w io.Writer) error { return safetensors.Write(w, tensors, metadata) })
}

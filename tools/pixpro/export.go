package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/weights"
)

func newExport() *cobra.Command {
	var (
		o      train.ExportOptions
		asJSON bool
	)
	var formats strings.Builder
	for _, f := range weights.Formats() {
		fmt.Fprintf(&formats, "  %-12s %s\n", f.Name, f.Help)
	}
	cmd := &cobra.Command{
		Use:   "export --checkpoint DIR --out FILE",
		Short: "Write the encoder for use elsewhere",
		Long: `Write the encoder of a checkpoint, or of a training output's latest:

` + strings.TrimRight(formats.String(), "\n"),
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
			n, err := train.Export(cmd.Context(), o, logEvent)
			if err != nil {
				return asUsage(err)
			}
			what := string(o.Which)
			if f, _ := weights.LookupFormat(o.Format); f.Whole {
				what = "model"
			} else if what == "" {
				what = string(train.Encoded)
			}
			return result(cmd, asJSON, map[string]any{"tensors": n, "out": o.Out}, fmt.Sprintf("%d tensors of the %s at %s\n", n, what, o.Out))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Checkpoint, "checkpoint", "", "checkpoint, or training output")
	f.StringVar(&o.Format, "format", "safetensors", "format of the file: "+strings.Join(weights.FormatNames(), ", "))
	f.StringVar((*string)(&o.Which), "which", "", `encoder or key-encoder (default: encoder)`)
	f.StringVar(&o.Out, "out", "", "file to write")
	f.DurationVar(&o.Wait, "wait", 0, "time to wait for another writer of the file to end, such as 1m; otherwise it is an error")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

func newFeatures() *cobra.Command {
	var (
		e          = evaluate.DefaultEncoders()
		checkpoint string
		image      string
		out        string
		asJSON     bool
	)
	cmd := &cobra.Command{
		Use:   "features --checkpoint PATH --image FILE",
		Short: "Compute the feature map of an image",
		Long: `Compute the last stage's feature map of an image: what torchvision's ResNet has
before its average pooling (--stage 3: the one before it). The image is taken
whole, in its own size unless --size is given, and normalised by ImageNet's
colours. The values are those that "pixpro eval" works with, to the bit.

The weights come from a checkpoint, from a training output's latest, or from a
file: safetensors, torchvision's .pth, or one in the published implementation's
layout. Files need --arch; a checkpoint knows it.`,
		Example: `  pixpro features --checkpoint run/ --image cat.jpg --out cat.safetensors
  pixpro features --checkpoint resnet50.pth --arch resnet50 --image cat.jpg --size 224`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "checkpoint", "image"); err != nil {
				return err
			}
			e.Checkpoints = []string{checkpoint}
			m, err := e.FeaturesOf(image)
			if err != nil {
				return asUsage(err)
			}
			shape, values := [3]int{m.Channels, m.Rows, m.Cols}, m.ChannelsFirst()
			if out != "" {
				tensor := safetensors.New("features", shape[:], values)
				err := atomicfile.WriteTo(out, func(w io.Writer) error { return safetensors.Write(w, []safetensors.Tensor{tensor}, nil) })
				if err != nil {
					return err
				}
			}
			mean, norm := summary(values)
			return result(cmd, asJSON, map[string]any{"shape": shape, "mean": mean, "norm": norm, "out": out},
				fmt.Sprintf("feature map of %d channels, %d x %d cells: mean %.6g, norm %.6g\n", shape[0], shape[1], shape[2], mean, norm))
		},
	}
	f := cmd.Flags()
	f.StringVar(&checkpoint, "checkpoint", "", "checkpoint, training output, or file of weights")
	f.StringVar((*string)(&e.Which), "which", string(e.Which), "encoder or key-encoder")
	f.StringVar(&e.Arch, "arch", e.Arch, "architecture of a file of weights")
	f.StringVar(&e.Stem, "stem", e.Stem, "stem of a file of weights")
	f.Float64Var(&e.Width, "width", e.Width, "factor of the channels of a file of weights")
	f.StringVar(&image, "image", "", "picture")
	f.IntVar(&e.Size, "size", 0, "side in pixels that the image is resized to, 0 for its own size")
	f.IntVar(&e.Stage, "stage", e.Stage, "stage whose map is computed: 1 to 4")
	f.IntVar(&e.Threads, "threads", 1, "threads that compute, 0 for one a core")
	limitFlags(f, &e.Limits)
	f.StringVar(&out, "out", "", `safetensors file to write, with the tensor "features": channels x rows x columns`)
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func summary(values []float32) (mean, norm float64) {
	for _, v := range values {
		mean += float64(v)
		norm += float64(v) * float64(v)
	}
	return mean / float64(len(values)), math.Sqrt(norm)
}

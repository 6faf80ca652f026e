package main

import (
	"fmt"
	"io"
	"math"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/safetensors"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
)

// featuresOptions are what "pixpro features" computes.
type featuresOptions struct {
	checkpoint, which, arch, stem string
	width                         float64
	image                         string
	size, threads                 int
}

func newFeatures() *cobra.Command {
	var (
		opts   featuresOptions
		out    string
		asJSON bool
	)
	preset := train.Default()
	cmd := &cobra.Command{
		Use:   "features --checkpoint PATH --image FILE",
		Short: "Compute the feature map of an image",
		Long: `Compute the last stage's feature map of an image: what torchvision's ResNet has
before its average pooling. The image is taken whole, in its own size unless
--size is given, and normalised by ImageNet's colours.

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
			if opts.which != "encoder" && opts.which != "key-encoder" {
				return usageError{fmt.Errorf("--which %q: use encoder or key-encoder", opts.which)}
			}
			if opts.size < 0 {
				return usageError{fmt.Errorf("--size %d: must not be negative", opts.size)}
			}
			map3, shape, err := features(opts)
			if err != nil {
				return err
			}
			if out != "" {
				tensor := safetensors.New("features", []int64{int64(shape[0]), int64(shape[1]), int64(shape[2])}, map3)
				err := writeFile(out, func(w io.Writer) error { return safetensors.Write(w, []safetensors.Tensor{tensor}, nil) })
				if err != nil {
					return err
				}
			}
			mean, norm := summary(map3)
			return result(cmd, asJSON, map[string]any{"shape": shape, "mean": mean, "norm": norm, "out": out},
				fmt.Sprintf("feature map of %d channels, %d x %d cells: mean %.6g, norm %.6g\n", shape[0], shape[1], shape[2], mean, norm))
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.checkpoint, "checkpoint", "", "checkpoint, training output, or file of weights")
	f.StringVar(&opts.which, "which", "encoder", "encoder or key-encoder")
	f.StringVar(&opts.arch, "arch", preset.Arch, "architecture of a file of weights")
	f.StringVar(&opts.stem, "stem", preset.Stem, "stem of a file of weights")
	f.Float64Var(&opts.width, "width", preset.Width, "factor of the channels of a file of weights")
	f.StringVar(&opts.image, "image", "", "picture")
	f.IntVar(&opts.size, "size", 0, "side in pixels that the image is resized to, 0 for its own size")
	f.IntVar(&opts.threads, "threads", 0, "threads that compute (default: one a core)")
	f.StringVar(&out, "out", "", `safetensors file to write, with the tensor "features": channels x rows x columns`)
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// features computes the feature map of an image: channels x rows x columns.
func features(opts featuresOptions) ([]float32, [3]int, error) {
	var shape [3]int
	w, err := train.ReadWeights(opts.checkpoint)
	if err != nil {
		return nil, shape, err
	}
	if c := w.Checkpoint; c != nil {
		opts.arch, opts.stem, opts.width = c.Config.Arch, c.Config.Stem, c.Config.Width
	}
	architecture, err := model.Lookup(opts.arch, opts.stem, opts.width)
	if err != nil {
		return nil, shape, usageError{err}
	}
	tensors, err := w.Encoder(opts.which == "key-encoder")
	if err != nil {
		return nil, shape, err
	}
	planes, err := readPlanes(opts.image, opts.size)
	if err != nil {
		return nil, shape, err
	}
	d := cpu.New(opts.threads)
	defer d.Close()
	encoder, err := train.NewEncoder(d, architecture, tensors)
	if err != nil {
		return nil, shape, fmt.Errorf("%s: %w", w.Path, err)
	}
	return encoder.Features(planes)
}

// readPlanes reads a picture, resized to size x size pixels unless that is 0.
func readPlanes(path string, size int) (augment.Planes, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return augment.Planes{}, err
	}
	var (
		decoder decode.Decoder
		scratch augment.Scratch
		image   augment.Image
	)
	if err := decoder.Decode(data, &image); err != nil {
		return augment.Planes{}, fmt.Errorf("%s: %w", path, err)
	}
	planes := augment.NewPlanes(image.Width, image.Height)
	if size > 0 {
		planes = augment.NewPlanes(size, size)
	}
	augment.ResizedCrop(planes, image, augment.Rect{Width: image.Width, Height: image.Height}, &scratch)
	return planes, nil
}

func summary(values []float32) (mean, norm float64) {
	for _, v := range values {
		mean += float64(v)
		norm += float64(v) * float64(v)
	}
	return mean / float64(len(values)), math.Sqrt(norm)
}

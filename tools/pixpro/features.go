package main

import (
	"fmt"
	"io"
	"math"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// featuresOptions are what "pixpro features" computes.
type featuresOptions struct {
	checkpoint, which, arch, stem string
	width                         float64
	image                         string
	size, stage, threads          int
}

func newFeatures() *cobra.Command {
	var (
		opts   featuresOptions
		out    string
		asJSON bool
	)
	preset := options.Default()
	cmd := &cobra.Command{
		Use:   "features --checkpoint PATH --image FILE",
		Short: "Compute the feature map of an image",
		Long: `Compute the last stage's feature map of an image: what torchvision's ResNet has
before its average pooling (--stage 3: the one before it). The image is taken
whole, in its own size unless --size is given, and normalised by ImageNet's
colours. On one thread, the default, the values are those that "pixpro eval"
works with, to the bit; on several the last bits may differ.

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
			if err := checkEncoder(opts.which, opts.stage, opts.size, opts.threads); err != nil {
				return err
			}
			m, err := features(opts)
			if err != nil {
				return err
			}
			shape, values := [3]int{m.Channels, m.Rows, m.Cols}, m.ChannelsFirst()
			if out != "" {
				tensor := safetensors.New("features", shape[:], values)
				err := writeFile(out, func(w io.Writer) error { return safetensors.Write(w, []safetensors.Tensor{tensor}, nil) })
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
	f.StringVar(&opts.checkpoint, "checkpoint", "", "checkpoint, training output, or file of weights")
	f.StringVar(&opts.which, "which", "encoder", "encoder or key-encoder")
	f.StringVar(&opts.arch, "arch", preset.Arch, "architecture of a file of weights")
	f.StringVar(&opts.stem, "stem", preset.Stem, "stem of a file of weights")
	f.Float64Var(&opts.width, "width", preset.Width, "factor of the channels of a file of weights")
	f.StringVar(&opts.image, "image", "", "picture")
	f.IntVar(&opts.size, "size", 0, "side in pixels that the image is resized to, 0 for its own size")
	f.IntVar(&opts.stage, "stage", model.Stages, "stage whose map is computed: 1 to 4")
	f.IntVar(&opts.threads, "threads", 1, "threads that compute, 0 for one a core")
	f.StringVar(&out, "out", "", `safetensors file to write, with the tensor "features": channels x rows x columns`)
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// checkEncoder refuses flags that no encoder's features can have.
func checkEncoder(which string, stage, size, threads int) error {
	switch {
	case which != "encoder" && which != "key-encoder":
		return usageError{fmt.Errorf("--which %q: use encoder or key-encoder", which)}
	case stage < 1 || stage > model.Stages:
		return usageError{fmt.Errorf("--stage %d: use 1 to %d", stage, model.Stages)}
	case size < 0 || size > pipeline.MaxSize:
		return usageError{fmt.Errorf("--size %d: use up to %d", size, pipeline.MaxSize)}
	case threads < 0:
		return usageError{fmt.Errorf("--threads %d: must not be negative", threads)}
	}
	return nil
}

// features computes the feature map of an image.
func features(opts featuresOptions) (m train.FeatureMap, err error) {
	w, err := train.ReadWeights(opts.checkpoint)
	if err != nil {
		return m, err
	}
	if c := w.Checkpoint; c != nil {
		opts.arch, opts.stem, opts.width = c.Options.Arch, c.Options.Stem, c.Options.Width
	}
	architecture, err := model.Lookup(opts.arch, opts.stem, opts.width)
	if err != nil {
		return m, usageError{err}
	}
	tensors, err := w.Encoder(opts.which == "key-encoder")
	if err != nil {
		return m, err
	}
	planes, err := loadFile(new(evaluate.Loader), opts.image, opts.size)
	if err != nil {
		return m, err
	}
	d := cpu.New(opts.threads)
	defer d.Close()
	encoder, err := train.NewEncoder(d, architecture, tensors)
	if err != nil {
		return m, fmt.Errorf("%s: %w", w.Path, err)
	}
	return encoder.Features(planes, opts.stage)
}

// loadFile reads a picture, resized to size x size pixels unless that is 0.
func loadFile(l *evaluate.Loader, path string, size int) (augment.Planes, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return augment.Planes{}, err
	}
	planes, err := l.Load(data, size)
	if err != nil {
		return planes, fmt.Errorf("%s: %w", path, err)
	}
	return planes, nil
}

func summary(values []float32) (mean, norm float64) {
	for _, v := range values {
		mean += float64(v)
		norm += float64(v) * float64(v)
	}
	return mean / float64(len(values)), math.Sqrt(norm)
}

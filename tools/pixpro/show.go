package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

func newShow() *cobra.Command {
	var (
		views    viewFlags
		encoders evaluate.Encoders
		images   []string
		at       []int
		out      string
		pairs    int
		cells    int
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "show {--shards DIR | --checkpoint PATH --image FILE} --out FILE.png",
		Short: "Draw pairs of views with their matching cells, or what an encoder sees",
		Long: `With --shards, draw pairs of views beside their source image: the crops marked
in it, the cells of the feature maps, lines between some that match, and what
was drawn.

With --image, draw what encoders make of images: the first three principal
components of the features as red, green and blue, found over all the images of
an encoder together; and with --at X,Y the similarity (cosine) of the cell at
that pixel with all others as a heat map. Each --image is a row, each
--checkpoint (also --init, --untrained) a column. Images keep their size, which
gives more cells than in training, unless --size is given.`,
		Example: `  pixpro show --shards shards/ --out views.png
  pixpro show --shards shards/ --out views.png --pairs 4 --seed 7 --cells 6
  pixpro show --checkpoint run/ --image cat.jpg --at 120,80 --out cat.png
  pixpro show --checkpoint run/checkpoints/step-00001000 --checkpoint run/ --untrained --image cat.jpg --image dog.jpg --out sheet.png`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(images) > 0 {
				if err := required(cmd, "out"); err != nil {
					return err
				}
				if views.shards != "" {
					return usageError{errors.New("--shards and --image: views come from shards, features from an image; give one of them")}
				}
				if err := refuse(cmd, "is for pairs of views, not for --image", "recipe", "crop", "workers", "pairs", "cells"); err != nil {
					return err
				}
				encoders.Seed, encoders.Size = views.seed, 0
				if cmd.Flags().Changed("size") {
					encoders.Size = views.size
				}
				var marks [][2]int
				switch len(at) {
				case 0:
				case 2:
					marks = slices.Repeat([][2]int{{at[0], at[1]}}, len(images))
				default:
					return usageError{fmt.Errorf("--at has %d numbers: use X,Y", len(at))}
				}
				n, err := showFeatures(cmd.Context(), &encoders, images, marks, out)
				if err != nil {
					return err
				}
				return result(cmd, asJSON, map[string]any{"images": len(images), "encoders": n, "out": out},
					fmt.Sprintf("features of %d images from %d encoders at %s\n", len(images), n, out))
			}
			if err := refuse(cmd, "is for features: give the picture with --image", "checkpoint", "init", "untrained", "at", "which", "arch", "stem", "width", "stage", "threads"); err != nil {
				return err
			}
			if err := required(cmd, "shards", "out"); err != nil {
				return err
			}
			if pairs < 1 || pairs > 64 {
				return usageError{fmt.Errorf("--pairs %d: use 1 to 64", pairs)}
			}
			cfg, dataset, err := views.open(pipeline.Config{BatchSize: pairs, KeepLast: true, Epochs: 1, Limit: int64(pairs), Limits: encoders.Limits})
			if err != nil {
				return err
			}
			defer dataset.Close()
			n, err := show(cmd.Context(), cfg, figure.PairsOptions{Rows: cells, Cols: cells}, out)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, map[string]any{"pairs": n, "out": out}, fmt.Sprintf("%d pairs of views at %s\n", n, out))
		},
	}
	f := cmd.Flags()
	views.add(f)
	weightsFlags(f, &encoders)
	f.Lookup("size").Usage = "side of a view in pixels; with --image, that the pictures are resized to (default there: as they are)"
	f.Lookup("seed").Usage = "seed of the order and the augmentation; with --image, of --untrained weights"
	f.StringArrayVar(&images, "image", nil, "picture whose features are drawn; may repeat")
	f.IntSliceVar(&at, "at", nil, "pixel X,Y of the pictures that all cells are compared with")
	f.StringVar(&out, "out", "", "PNG to write")
	f.IntVar(&pairs, "pairs", 8, "pairs to draw")
	f.IntVar(&cells, "cells", 7, "cells along a side of the feature map")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// show draws the pairs of a pipeline's first batch.
func show(ctx context.Context, cfg pipeline.Config, opts figure.PairsOptions, out string) (int, error) {
	if err := opts.Validate(); err != nil {
		return 0, usageError{err}
	}
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if !p.Next() {
		if err := p.Err(); err != nil {
			return 0, err
		}
		return 0, errors.New("the shards have no image")
	}
	batch, err := pipeline.NewBatch(p.Record())
	if err != nil {
		return 0, err
	}
	decoder := decode.Decoder{Limits: cfg.Limits}
	pairs := make([]figure.Pair, batch.Len())
	for i := range pairs {
		sample, err := cfg.Dataset.Sample(batch.Index()[i])
		if err != nil {
			return 0, err
		}
		if err := decoder.Decode(sample.Image, &pairs[i].Source); err != nil {
			return 0, fmt.Errorf("%s: %w", sample.Key, err)
		}
		pairs[i].Title = sample.Key
		for v := range 2 {
			n := 3 * batch.Size() * batch.Size()
			pairs[i].Views[v] = augment.Planes{Width: batch.Size(), Height: batch.Size(), Pix: batch.Views(v)[i*n : (i+1)*n]}
			pairs[i].Params[v] = batch.Params(v, i)
			pairs[i].Coords[v] = augment.Coord(batch.Coords(v)[4*i:])
		}
	}
	m, err := figure.Pairs(pairs, opts)
	if err != nil {
		return 0, err
	}
	return len(pairs), writePNG(out, m)
}

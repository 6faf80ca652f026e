package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/pipeline"
)

func newShow() *cobra.Command {
	var (
		views  viewFlags
		out    string
		pairs  int
		cells  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "show --shards DIR --out views.png",
		Short: "Draw pairs of views with their matching cells",
		Long: `Draw pairs of views beside their source image: the crops marked in it, the
cells of the feature maps, lines between some that match, and what was drawn.`,
		Example: `  pixpro show --shards shards/ --out views.png
  pixpro show --shards shards/ --out views.png --pairs 4 --seed 7 --cells 6`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards", "out"); err != nil {
				return err
			}
			if pairs < 1 || pairs > 64 {
				return usageError{fmt.Errorf("--pairs %d: use 1 to 64", pairs)}
			}
			cfg, err := views.open(pipeline.Config{BatchSize: pairs, KeepLast: true, Epochs: 1, Limit: int64(pairs)})
			if err != nil {
				return err
			}
			defer cfg.Dataset.Close()
			n, err := show(cmd.Context(), cfg, figure.PairsOptions{Rows: cells, Cols: cells}, out)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, map[string]any{"pairs": n, "out": out}, fmt.Sprintf("%d pairs of views at %s\n", n, out))
		},
	}
	f := cmd.Flags()
	views.add(f)
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
		return 0, fmt.Errorf("no image of the first %d can be read", cfg.BatchSize)
	}
	batch, err := pipeline.ViewBatch(p.Record())
	if err != nil {
		return 0, err
	}
	var decoder decode.Decoder
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

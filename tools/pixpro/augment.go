package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-436d2970/pixpro/pipeline"
)

func newAugment() *cobra.Command {
	var (
		views       viewFlags
		loader      loaderFlags
		cfg         pipeline.Config
		out         string
		compression string
		keepLast    bool
		dropLast    bool
		printRecipe bool
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "augment --shards DIR",
		Short: "Stream pairs of augmented views as Arrow record batches",
		Long: `Draw two augmented views of every image and write them as Arrow record batches:
pixels (uint8, 3 x size x size; or float32, normalised), the coordinates of both
crops, and all parameters that were drawn. The bytes depend on the seed, not on
the machine or the number of workers.

The output is an Arrow IPC stream, or an Arrow file where --out ends in .arrow.
A stream to standard output ends when its reader goes away.

With --world, the parts of all ranks interleave to the epoch. They have the same
length with --drop-last; with --keep-last, the first ranks may have one more.`,
		Example: `  pixpro augment --shards shards/ --out pairs.arrow --limit 1000
  pixpro augment --shards shards/ --epochs 10 --batch 128 | python train.py
  pixpro augment --shards shards/ --epochs 0 --shuffle window:8192 | python train.py
  pixpro augment --shards shards/ --rank 1 --world 4 --drop-last | python train.py
  pixpro augment --shards shards/ --epochs 10 --start 3:6400 | python train.py   # go on
  pixpro augment --recipe mocov2 --print-recipe > mine.json                      # a recipe of one's own
  pixpro augment --shards shards/ --recipe mine.json | python train.py`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printRecipe {
				recipe, err := lookupRecipe(views.recipe, views.crop)
				if err != nil {
					return err
				}
				return result(cmd, true, recipe, "")
			}
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			if out == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
				return usageError{errors.New("the stream is binary: redirect standard output, or give a file with --out")}
			}
			if out == "-" && asJSON {
				return usageError{errors.New("--json prints to standard output, where the stream goes: give a file with --out")}
			}
			if dropLast && keepLast && cmd.Flags().Changed("keep-last") {
				return usageError{errors.New("--keep-last and --drop-last: use one")}
			}
			options, err := compressionOptions(compression)
			if err != nil {
				return err
			}
			cfg.KeepLast = keepLast && !dropLast
			loader.apply(&cfg)
			full, dataset, err := views.open(cfg)
			if err != nil {
				return err
			}
			defer dataset.Close()
			done, err := stream(cmd.Context(), full, out, options...)
			if errors.Is(err, context.Canceled) {
				return fmt.Errorf("stopped after %d pairs: --start %v goes on behind them", done.Pairs, (*positionFlag)(&done.Position))
			}
			if err != nil {
				return err
			}
			if out == "-" {
				log.Debug().Int64("pairs", done.Pairs).Int64("epoch", done.Position.Epoch).Int64("offset", done.Position.Offset).Msg("stream ended")
				return nil
			}
			return result(cmd, asJSON, done, fmt.Sprintf("%d pairs in %d record batches at %s\n", done.Pairs, done.Batches, out))
		},
	}
	f := cmd.Flags()
	views.add(f)
	loader.add(f)
	f.StringVar(&out, "out", "-", "file, or - for standard output")
	f.StringVar(&compression, "compression", "none", "of the record batches: none, zstd or lz4")
	f.IntVar(&cfg.Epochs, "epochs", 1, "times that every image is drawn, 0 for without end")
	f.Int64Var(&cfg.Limit, "limit", 0, "pairs at most, 0 for no limit")
	f.Var((*positionFlag)(&cfg.Start), "start", "position to begin at, from 0:0")
	f.IntVar(&cfg.Rank, "rank", 0, "part of every epoch that this process takes")
	f.IntVar(&cfg.World, "world", 1, "parts that every epoch is split into")
	f.BoolVar(&keepLast, "keep-last", true, "keep an epoch's last batch where it is not full")
	f.BoolVar(&dropLast, "drop-last", false, "leave out an epoch's last batch where it is not full")
	f.BoolVar(&printRecipe, "print-recipe", false, "print the recipe as JSON, to change and give to --recipe, and stop")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON (with --out FILE)")
	return cmd
}

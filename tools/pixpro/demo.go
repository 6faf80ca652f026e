package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
)

func newDemo() *cobra.Command {
	var out string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on a small dataset of its own",
		Long: `Generate a small dataset of textured objects, shard it, draw pairs of views,
pre-train a small encoder on it, export that, and measure on other images what
its features are worth beside untrained ones: all that one does with one's own
images, in about two minutes.

"pixpro demo dataset" makes such a dataset alone, of any size.`,
		Example: `  pixpro demo
  pixpro demo --out /tmp/demo --seed 3
  pixpro demo dataset --out images/ --masks masks/ --images 2000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			entries, err := os.ReadDir(out)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if len(entries) > 0 {
				return usageError{fmt.Errorf("%s is not empty: remove it, or choose another folder with --out", out)}
			}
			err = demo(cmd, out, seed)
			if errors.Is(err, context.Canceled) {
				return fmt.Errorf("stopped: remove %s before the next try", out)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "pixpro-demo", "folder for everything that the demo makes")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "seed of the dataset and the training")
	cmd.AddCommand(newDemoDataset())
	return cmd
}

func newDemoDataset() *cobra.Command {
	var (
		out    string
		opts   = synth.Options{Images: 400, MinSide: 96, MaxSide: 320}
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "dataset --out DIR",
		Short: "Generate images of textured objects, with masks",
		Long: fmt.Sprintf(`Generate JPEGs of textured objects on backgrounds, in a folder for each class,
and with --masks PNGs of the same names with the class of every pixel: 0 is the
background, then come %s.`, strings.Join(synth.ClassNames(), ", ")),
		Example: `  pixpro demo dataset --out images/ --masks masks/ --images 2000
  pixpro demo dataset --out val/ --masks val-masks/ --images 500 --seed 1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "out"); err != nil {
				return err
			}
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			if err := generate(cmd.Context(), out, opts); err != nil {
				return err
			}
			return result(cmd, asJSON, map[string]any{"images": opts.Images, "out": out, "masks": opts.MasksDir}, fmt.Sprintf("%d images in %s\n", opts.Images, out))
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "folder of the images, which must be new or empty")
	f.StringVar(&opts.MasksDir, "masks", "", "folder of the masks, which must be new or empty")
	f.IntVar(&opts.Images, "images", opts.Images, "number of images")
	f.IntVar(&opts.MinSide, "min-side", opts.MinSide, "least side of an image in pixels")
	f.IntVar(&opts.MaxSide, "max-side", opts.MaxSide, "largest side of an image in pixels")
	f.Uint64Var(&opts.Seed, "seed", 0, "seed of the images")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// generate draws a dataset with a progress bar.
func generate(ctx context.Context, out string, opts synth.Options) error {
	bar := newProgress("generating images", 0, false)
	defer bar.finish()
	opts.Listener = func(e shards.Event) {
		if p, ok := e.(synth.Progress); ok {
			bar.set(int64(p.Done), int64(p.Total), "")
		}
	}
	return synth.Generate(ctx, out, opts)
}

// demoSize is the side of the demo's views; with the stem that it uses, the
// feature maps have 6 x 6 cells.
const demoSize = 96

// demoRecipe is byol for views of demoSize. Blur is as large a part of them as
// byol's is of 224 pixels, and crops cover at least a fifth of an image: the
// textures of small images survive no more.
func demoRecipe() (augment.Recipe, error) {
	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		return recipe, err
	}
	recipe.Name = fmt.Sprintf("byol-%d", demoSize)
	recipe.CropScale.Min = 0.2
	for v := range recipe.Views {
		recipe.Views[v].BlurSigma.Max *= demoSize / 224.
	}
	return recipe, recipe.Validate()
}

func demo(cmd *cobra.Command, out string, seed uint64) error {
	ctx := cmd.Context()
	var (
		images   = filepath.Join(out, "images")
		shardDir = filepath.Join(out, "shards")
		recipe   = filepath.Join(out, "recipe.json")
		views    = filepath.Join(out, "views.png")
		run      = filepath.Join(out, "run")
		backbone = filepath.Join(out, "backbone.safetensors")
	)
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	eval := demoEvaluation{
		train: images, trainMasks: filepath.Join(out, "masks"),
		recipe: recipe, val: filepath.Join(out, "val"), valMasks: filepath.Join(out, "val-masks"), valShards: filepath.Join(out, "val-shards"),
		run: run, features: filepath.Join(out, "features.png"), file: filepath.Join(out, "evaluation.json"), seed: seed,
	}
	if err := generate(ctx, images, synth.Options{Images: 320, Seed: seed, MasksDir: eval.trainMasks}); err != nil {
		return err
	}
	if err := generate(ctx, eval.val, synth.Options{Images: 96, Seed: seed + 1, MasksDir: eval.valMasks}); err != nil {
		return err
	}
	if err := shard(ctx, cmd, shards.WriteConfig{In: images, Out: shardDir}, false); err != nil {
		return err
	}

	small, err := demoRecipe()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteTo(recipe, func(w io.Writer) error { return json.NewEncoder(w).Encode(small) }); err != nil {
		return err
	}
	cfg := options.Default()
	cfg.Shards, cfg.Output, cfg.Seed = shardDir, run, seed
	cfg.Arch, cfg.Stem, cfg.Width, cfg.HeadHidden = "resnet18", model.StemNoPool, 0.5, 512
	cfg.Size, cfg.BatchSize, cfg.Epochs, cfg.WarmupEpochs = demoSize, 32, 5, 1
	cfg.BaseLR = 16 // a short run on few images wants large steps
	cfg.Recipe = recipe
	if gemm.Name() == gemm.Portable {
		cfg.Width /= 2 // a quarter of the work, where it takes ten times as long
	}

	if err := demoViews(ctx, cfg, views); err != nil {
		return err
	}
	last, err := runTraining(ctx, cfg)
	if err != nil {
		return err
	}
	tensors, err := train.Export(ctx, train.ExportOptions{Checkpoint: run, Out: backbone}, nil)
	if err != nil {
		return err
	}
	first, err := firstLoss(run)
	if err != nil {
		return err
	}
	scores, err := eval.measure(ctx, cmd)
	if err != nil {
		return err
	}
	log.Info().Str("folder", out).Msg("demo done")
	return result(cmd, false, nil, fmt.Sprintf(`
The PixPro loss fell from %.2f to %.2f in %d steps. It lies between -4 and 4;
longer runs rise again slowly while the features get better.

What the features are worth on %d other images, in percent:

%s
mIoU is of a linear classifier of cells, cluster mIoU of k-means; match is how
often a cell finds its place again in another view. A minute of training shows
the direction only, and may even lose at matching: see docs/evaluation.md.

  %s   the images, a folder a class
  %s   the same as Arrow shards
  %s   the augmentation: byol, for small views
  %s   pairs of views; lines join cells that show the same place
  %s   the loss, step by step
  %s   features as colours, and their similarity to a place
  %s   the encoder, %d tensors under torchvision's names

With your own images, a folder of them or of one folder a class:

  pixpro shard  --in photos/ --out shards/
  pixpro train  --shards shards/ --output run/ --arch resnet50
  pixpro export --checkpoint run/ --out backbone.safetensors
`, first, last.Loss, last.Step, scores.Images, scores.table(),
		images, shardDir, recipe, views, filepath.Join(run, train.LossFile), eval.features, backbone, tensors))
}

// demoViews draws the first pairs that the training will see.
func demoViews(ctx context.Context, cfg options.Options, out string) error {
	recipe, err := lookupRecipe(cfg.Recipe, cfg.Crop)
	if err != nil {
		return err
	}
	dataset, err := shards.Open(cfg.Shards)
	if err != nil {
		return err
	}
	defer dataset.Close()
	const pairs, cells = 6, 6
	_, err = show(ctx, pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: cfg.Size, BatchSize: pairs, Limit: pairs, Seed: cfg.Seed,
	}, figure.PairsOptions{Rows: cells, Cols: cells}, out)
	return err
}

func firstLoss(output string) (float64, error) {
	metrics, err := train.ReadMetrics(output)
	if err != nil {
		return 0, err
	}
	return metrics[0].Loss, nil
}

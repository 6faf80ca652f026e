package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
)

func newTrain() *cobra.Command {
	var (
		cfg    = train.Default()
		run    trainOptions
		file   string
		preset string
		dryRun bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "train --shards DIR --output DIR",
		Short: "Pre-train an encoder",
		Long: `Pre-train an encoder on pairs of views from shards. The output folder gets
checkpoints, metrics.jsonl with one line a step, and loss.png.

The PixPro loss lies between -4 and 4. It falls to about -3 or lower within the
first hundreds of steps and then rises slowly, while the features get better:
this is as in the published runs.

Ctrl-C stops after the present step and saves a checkpoint; the same command
with --resume auto goes on from it, with exactly the losses of an unbroken run
where threads, instructions and the library for matrix products are the same.
Options are read from a YAML file with
--config, whose names are those of the flags; flags come before it.`,
		Example: `  pixpro train --shards shards/ --output run/ --arch resnet50 --batch 64 --epochs 100
  pixpro train --shards shards/ --output run/ --arch resnet50 --batch 64 --epochs 100 --resume auto
  pixpro train --shards shards/ --output small/ --arch resnet18 --size 96 --stem nopool --width 0.5
  pixpro train --shards shards/ --output run/ --init resnet50.pth
  pixpro train --shards shards/ --output run/ --device cuda --precision bf16 --batch 128
  pixpro train --config run.yaml --epochs 200
  pixpro train --shards shards/ --output run/ --preset pixpro-100ep --batch 128 --accumulate 8 --dry-run`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	addTrainFlags(f, &cfg)
	f.StringVar(&file, "config", "", "YAML file with options")
	f.StringVar(&preset, "preset", "", "options of one of the paper's runs: "+strings.Join(train.Presets(), ", "))
	f.BoolVar(&dryRun, "dry-run", false, "print what the run will take and stop")
	f.IntVar(&run.workers, "workers", 0, "goroutines that decode and augment (default: one a core)")
	f.IntVar(&run.threads, "threads", 0, "threads that compute (default: one a core)")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file != "" || preset != "" {
			if err := readConfig(f, &cfg, preset, file); err != nil {
				return usageError{err}
			}
		}
		if err := required(cmd, "shards", "output"); err != nil {
			return err
		}
		if err := cfg.Validate(); err != nil {
			return usageError{err}
		}
		if dryRun {
			return printPlan(cmd, cfg, asJSON)
		}
		last, err := runTraining(cmd.Context(), cfg, run)
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped after step %d; go on with --resume auto", last.Step)
		}
		if err != nil {
			return err
		}
		return result(cmd, asJSON, last, fmt.Sprintf("trained %d steps, the last loss is %.4f: %s\n", last.Step, last.Loss, cfg.Output))
	}
	return cmd
}

func addTrainFlags(f *pflag.FlagSet, c *train.Config) {
	f.StringVar(&c.Shards, "shards", c.Shards, "folder of shards")
	f.StringVar(&c.Output, "output", c.Output, "folder for checkpoints, metrics and the loss curve")
	f.StringVar(&c.Resume, "resume", c.Resume, "auto (from the newest sound checkpoint in the output, if any), or a checkpoint's path")
	f.StringVar(&c.Init, "init", c.Init, "weights that a new run starts from: a checkpoint, torchvision's or the published .pth, or safetensors")
	f.StringVar(&c.Arch, "arch", c.Arch, "resnet18 to resnet152, wide_resnet50_2, resnext101_32x8d; resnets also with _w2x, _16s, _d")
	f.StringVar(&c.Stem, "stem", c.Stem, "imagenet (a cell is 32 pixels wide), nopool (16) or small (8)")
	f.Float64Var(&c.Width, "width", c.Width, "factor of the encoder's channels")
	f.StringVar(&c.Method, "method", c.Method, "pixpro, pixcontrast, or instance (whole images only)")
	f.IntVar(&c.Size, "size", c.Size, "side of a view in pixels")
	f.IntVar(&c.BatchSize, "batch", c.BatchSize, "pairs of views in a batch")
	f.IntVar(&c.Accumulate, "accumulate", c.Accumulate, "batches whose gradients make one step")
	f.IntVar(&c.Epochs, "epochs", c.Epochs, "times that every image is drawn")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of parameters, order and augmentation")
	f.StringVar(&c.Recipe, "recipe", c.Recipe, recipeUsage)
	f.Float64Var(&c.Crop, "crop", c.Crop, cropUsage)
	f.Float64Var(&c.BaseLR, "base-lr", c.BaseLR, "learning rate for 256 pairs a step, scaled by --batch")
	f.Float64Var(&c.WeightDecay, "weight-decay", c.WeightDecay, "weight decay, not of biases and batch norms")
	f.IntVar(&c.WarmupEpochs, "warmup-epoch", c.WarmupEpochs, "epochs in which the learning rate rises")
	f.StringVar(&c.Optimizer, "optimizer", c.Optimizer, "lars or sgd")
	f.Float64Var(&c.Momentum, "momentum", c.Momentum, "momentum of the optimiser")
	f.StringVar(&c.LRScheduler, "lr-scheduler", c.LRScheduler, "learning rate after the warm-up: cosine or step")
	f.IntSliceVar(&c.LRDecayEpochs, "lr-decay-epochs", c.LRDecayEpochs, "epochs after which the step schedule lowers the rate")
	f.Float64Var(&c.LRDecayRate, "lr-decay-rate", c.LRDecayRate, "what it multiplies the rate by")
	f.IntVar(&c.HeadHidden, "head-hidden", c.HeadHidden, "channels inside a projection head")
	f.IntVar(&c.HeadDim, "head-dim", c.HeadDim, "channels of a projection")
	f.Float64Var(&c.PixProGamma, "pixpro-p", c.PixProGamma, "exponent of the propagation module's similarity")
	f.Float64Var(&c.PixProMomentum, "pixpro-momentum", c.PixProMomentum, "first momentum of the key encoder, which rises to 1")
	f.Float64Var(&c.PixProPositiveRatio, "pixpro-pos-ratio", c.PixProPositiveRatio, "distance below which cells match, in cell diagonals")
	f.Float64Var(&c.PixProClamp, "pixpro-clamp-value", c.PixProClamp, "least similarity in the propagation module")
	f.IntVar(&c.PixProTransformLayer, "pixpro-transform-layer", c.PixProTransformLayer, "layers of the propagation module's value transform: 0, 1 or 2")
	f.Float64Var(&c.PixContrastTau, "pixcontrast-tau", c.PixContrastTau, "temperature of PixContrast")
	f.StringVar(&c.Instance, "instance", c.Instance, "loss of whole images beside that of pixels: none, byol or simclr")
	f.Float64Var(&c.InstanceWeight, "pixpro-ins-loss-weight", c.InstanceWeight, "weight of the loss of whole images")
	f.Float64Var(&c.InstanceTau, "instance-tau", c.InstanceTau, "temperature of the simclr loss of whole images")
	f.StringVar(&c.Device, "device", c.Device, "what computes: cpu, cuda, cuda:N, or auto (a card if there is one)")
	f.StringVar(&c.Precision, "precision", c.Precision, "on a card: fp32, tf32 (faster matrix products) or bf16 (half the memory too)")
	f.Var(&c.SaveEvery, "save-every", "distance between checkpoints: 10m, 1000steps, 1epoch, or end")
	f.IntVar(&c.Keep, "keep", c.Keep, "checkpoints that are kept, 0 for all")
}

// readConfig sets c to a preset, a YAML file above it, and the flags that were
// given above both. preset and path may be empty.
func readConfig(f *pflag.FlagSet, c *train.Config, preset, path string) error {
	given := map[*pflag.Flag]func() error{}
	f.Visit(func(flag *pflag.Flag) {
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values := list.GetSlice()
			given[flag] = func() error { return list.Replace(values) }
			return
		}
		value := flag.Value.String()
		given[flag] = func() error { return flag.Value.Set(value) }
	})
	*c = train.Default()
	var err error
	if preset != "" {
		if *c, err = train.Preset(preset); err != nil {
			return err
		}
	}
	if path != "" {
		if err = c.ReadConfig(path); err != nil {
			return err
		}
	}
	for flag, set := range given {
		if err := set(); err != nil {
			return fmt.Errorf("--%s: %w", flag.Name, err)
		}
	}
	return nil
}

// printPlan says what a run will take.
func printPlan(cmd *cobra.Command, cfg train.Config, asJSON bool) error {
	dataset, err := openDataset(cfg)
	if err != nil {
		return err
	}
	defer dataset.Close()
	p, err := train.MakePlan(cfg, dataset.Len())
	if err != nil {
		return err
	}
	return result(cmd, asJSON, p, fmt.Sprintf(`model       %s, stem %s, width %g, %s: %.1f M parameters, %.1f M more in the key branch
feature map %d x %d cells of %d pixels
data        %d images, batches of %d pairs x %d, %d epochs: %d steps
schedule    %s, %s; learning rate up to %g after %d epochs; key momentum %g to 1
memory      %.2f GiB of tensors
work        %.1f GFLOP a step
`,
		cfg.Arch, cfg.Stem, cfg.Width, cfg.Method, float64(p.Parameters)/1e6, float64(p.KeyParameters)/1e6,
		p.Cells, p.Cells, cfg.Size/p.Cells,
		dataset.Len(), cfg.BatchSize, cfg.Accumulate, cfg.Epochs, p.TotalSteps,
		cfg.Optimizer, cfg.LRScheduler, p.PeakRate, cfg.WarmupEpochs, cfg.PixProMomentum,
		float64(p.MemoryBytes)/(1<<30), float64(p.StepFlops)/1e9))
}

// openDataset opens a run's dataset, which must fill a batch.
func openDataset(cfg train.Config) (*shards.Dataset, error) {
	dataset, err := shards.Open(cfg.Shards)
	if err == nil && dataset.Len() < int64(cfg.BatchSize) {
		err = usageError{fmt.Errorf("--batch %d: %s has only %d images", cfg.BatchSize, cfg.Shards, dataset.Len())}
		return nil, errors.Join(err, dataset.Close())
	}
	return dataset, err
}

// trainOptions are what a run's result does not depend on.
type trainOptions struct{ workers, threads int }

// runTraining trains and draws the loss curve. It returns the last step's metrics.
func runTraining(ctx context.Context, cfg train.Config, opts trainOptions) (last train.Metrics, err error) {
	recipe, err := lookupRecipe(cfg.Recipe, cfg.Crop)
	if err != nil {
		return last, err
	}
	dataset, err := openDataset(cfg)
	if err != nil {
		return last, err
	}
	defer dataset.Close()
	if opts.threads < 0 {
		return last, usageError{fmt.Errorf("--threads %d: must not be negative", opts.threads)}
	}
	data := pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: cfg.Size, BatchSize: cfg.BatchSize,
		Seed: cfg.Seed, Epochs: cfg.Epochs, Workers: opts.workers, OnEvent: logEvent,
	}
	if err := data.Validate(); err != nil {
		return last, usageError{err}
	}

	d, err := openDevice(ctx, cfg.Device, cfg.Precision, opts.threads)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	t, err := train.New(d, cfg, func(err error) { log.Warn().Err(err).Msg("checkpoint passed over") })
	if err != nil {
		return last, err
	}
	logStart(t, cfg, dataset, d.Name())

	// Cancelling ctx ends the trainer's loop, which closes the pipeline here.
	data.Start = t.Position()
	p, err := pipeline.Open(context.WithoutCancel(ctx), data)
	if err != nil {
		return last, err
	}
	defer p.Close()

	total := cfg.TotalSteps(p.BatchesPerEpoch())
	bar := newProgress("training", total, false)
	t.OnStep = func(m train.Metrics) {
		last = m
		bar.set(m.Step, total, fmt.Sprintf(" epoch %d/%d, loss %.3f, %.1f pairs/s, %.0f%% waiting for data",
			m.Epoch, cfg.Epochs, m.Loss, m.PairsPerSecond, 100*m.DataWaitSeconds*m.PairsPerSecond/float64(cfg.BatchSize*cfg.Accumulate)))
	}
	t.OnSave = func(step int64, dir string) {
		log.Info().Int64("step", step).Float64("loss", last.Loss).Str("checkpoint", dir).Msg("saved")
	}
	err = t.Run(ctx, p)
	bar.finish()
	metrics, metricsErr := train.ReadMetrics(cfg.Output)
	if metricsErr != nil || len(metrics) == 0 {
		return last, errors.Join(err, metricsErr)
	}
	return metrics[len(metrics)-1], errors.Join(err, drawLoss(cfg, metrics))
}

func logStart(t *train.Trainer, cfg train.Config, dataset *shards.Dataset, device string) {
	parameters := 0
	for _, p := range t.Model().Trained() {
		parameters += p.Value.Len()
	}
	cells := cfg.Size / t.Model().Encoder.Stride()
	log.Info().Str("device", device).Str("arch", cfg.Arch).Str("method", cfg.Method).Int("parameters", parameters).
		Str("cells", fmt.Sprintf("%dx%d", cells, cells)).Int64("images", dataset.Len()).Msg("training")
	if r := t.Init(); r != nil {
		log.Info().Int("taken", len(r.Taken)).Int("copied", len(r.Copied)).Int("random", len(r.Random)).Int("left", len(r.Left)).Msg("weights from " + r.String())
	}
	if r := t.Resumed(); r != nil {
		log.Info().Str("checkpoint", r.Dir).Int64("step", r.State.Step).Msg("resumed")
		if was := r.State.Versions.Device; was != device && !t.Finished() {
			log.Warn().Str("before", was).Str("now", device).Msg("the device is not the one that the run had: its losses will differ from the unbroken run's in the last digits")
		}
		if t.Finished() {
			log.Warn().Int("epochs", cfg.Epochs).Msg("the run had already ended: nothing is left to do; --epochs with more goes on")
		}
	}
}

// lossFile is the name of the loss curve in a training output.
const lossFile = "loss.png"

// drawLoss draws the curve of all steps so far.
func drawLoss(cfg train.Config, metrics []train.Metrics) error {
	curve := figure.Curve{Title: fmt.Sprintf("%s, %s, %d px", cfg.Method, cfg.Arch, cfg.Size)}
	for _, m := range metrics {
		curve.Steps = append(curve.Steps, float64(m.Step))
		curve.Loss = append(curve.Loss, m.Loss)
		curve.Rate = append(curve.Rate, m.LearningRate)
	}
	return writeFile(filepath.Join(cfg.Output, lossFile), func(w io.Writer) error { return figure.Loss(w, curve) })
}

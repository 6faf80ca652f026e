package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/options"
)

func newTrain() *cobra.Command {
	var (
		o      = options.Default()
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
with --resume auto goes on from it, with exactly the losses of an unbroken run on
any number of threads, where vector instructions (and the library for matrix
products, if PIXPRO_BLAS names one) are the same. Options are read from a YAML
file with --config, whose names are those of the flags; flags come before it.`,
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
	f.StringVar(&file, "config", "", "YAML file with options")
	f.StringVar(&preset, "preset", "", "options of one of the papers' runs: "+strings.Join(options.Presets(), ", "))
	f.BoolVar(&dryRun, "dry-run", false, "print what the run will take and stop")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	addOptions(f, &o)
	groupOptions(cmd, &o)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		defer func() { err = asUsage(err) }()
		o, err := layered(f, preset, file)
		if err != nil {
			return err
		}
		for _, name := range []string{"shards", "output"} {
			if r, _ := o.Row(name); r.String() == "" {
				return usageError{fmt.Errorf("--%s is needed: %s", name, r.Help)}
			}
		}
		if dryRun {
			return printPlan(cmd, o, asJSON)
		}
		last, err := runTraining(cmd.Context(), o)
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped after step %d; go on with --resume auto", last.Step)
		}
		if err != nil {
			return err
		}
		return result(cmd, asJSON, last, fmt.Sprintf("trained %d steps, the last loss is %.4f: %s\n", last.Step, last.Loss, o.Output))
	}
	return cmd
}

// printPlan says what a run will take.
func printPlan(cmd *cobra.Command, cfg options.Options, asJSON bool) error {
	p, err := train.PlanRun(cfg)
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
		p.Images, cfg.BatchSize, cfg.Accumulate, cfg.Epochs, p.TotalSteps,
		cfg.Optimizer, cfg.LRScheduler, p.PeakRate, cfg.WarmupEpochs, cfg.PixProMomentum,
		float64(p.MemoryBytes)/(1<<30), float64(p.StepFlops)/1e9))
}

// runTraining trains with a progress bar. It returns the last step's metrics.
func runTraining(ctx context.Context, o options.Options) (last train.Metrics, err error) {
	if err := o.Validate(); err != nil {
		return last, err
	}
	if err := chooseProgram(ctx, o.Device); err != nil {
		return last, err
	}
	display := &trainDisplay{}
	last, err = train.Run(ctx, o, display.show)
	display.finish()
	return last, err
}

// trainDisplay shows the events of a run: a bar, and lines in the log.
type trainDisplay struct {
	options options.Options
	bar     *progress
	last    train.Metrics
}

func (d *trainDisplay) finish() {
	if d.bar != nil {
		d.bar.finish()
	}
}

func (d *trainDisplay) show(e train.Event) {
	switch e := e.(type) {
	case train.Started:
		d.options = e.Options
		d.bar = newProgress("training", e.TotalSteps, false)
		logStart(e)
	case train.StepDone:
		d.last = e.Metrics
		pairs := float64(d.options.BatchSize * d.options.Accumulate)
		d.bar.set(e.Step, e.TotalSteps, fmt.Sprintf(" epoch %d/%d, loss %.3f, %.1f pairs/s, %.0f%% waiting for data",
			e.Epoch, d.options.Epochs, e.Loss, e.PairsPerSecond, 100*e.DataWaitSeconds*e.PairsPerSecond/pairs))
	case train.Saved:
		log.Info().Int64("step", e.Step).Float64("loss", d.last.Loss).Str("checkpoint", e.Dir).Msg("saved")
	case train.UnsoundCheckpoint:
		log.Warn().Err(e.Err).Msg("checkpoint passed over")
	case train.NoCard:
		log.Info().Err(e.Err).Msg("there is no card: computing on the processor")
	default:
		logEvent(e)
	}
}

func logStart(e train.Started) {
	o := &e.Options
	log.Info().Str("device", e.Device).Str("arch", o.Arch).Str("method", o.Method).Int64("parameters", e.Parameters).
		Str("cells", fmt.Sprintf("%dx%d", e.Cells, e.Cells)).Int64("images", e.Images).Msg("training")
	if r := e.Init; r != nil {
		log.Info().Int("taken", len(r.Taken)).Int("copied", len(r.Copied)).Int("random", len(r.Random)).Int("left", len(r.Left)).Msg("weights from " + r.String())
	}
	if r := e.Resumed; r != nil {
		log.Info().Str("checkpoint", r.Dir).Int64("step", r.State.Step).Msg("resumed")
		if was := r.State.Versions.Device; was != e.Device && !e.Ended {
			log.Warn().Str("before", was).Str("now", e.Device).Msg("the device is not the one that the run had: its losses will differ from the unbroken run's in the last digits")
		}
		if e.Ended {
			log.Warn().Int("epochs", o.Epochs).Msg("the run had already ended: nothing is left to do; --epochs with more goes on")
		}
	}
}

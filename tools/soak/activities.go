package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/weights"
)

// activities work in the folder that prepare made until ctx is done, and count
// what they do.
var activities = map[string]func(ctx context.Context, dir string, rng *rand.Rand, units *atomic.Int64) error{
	"stream":   stream,
	"train":    training,
	"evaluate": evaluation,
}

// prepare makes a folder for each activity: images with masks, and their shards.
// A few images lack their last bytes.
func prepare(ctx context.Context, dir string) error {
	for name := range activities {
		images := filepath.Join(dir, name, "images")
		o := synth.Options{Images: 150, MinSide: 60, MaxSide: 240, MasksDir: filepath.Join(dir, name, "masks")}
		if name == "evaluate" {
			o.Images = 24
		}
		if err := synth.Generate(ctx, images, o); err != nil {
			return err
		}
		if name != "evaluate" {
			if err := damage(images); err != nil {
				return err
			}
		}
		_, _, err := shards.Write(ctx, shards.WriteConfig{In: images, Out: filepath.Join(dir, name, "shards"), ShardSize: 200 << 10})
		if err != nil {
			return err
		}
	}
	return nil
}

func damage(images string) error {
	paths, err := filepath.Glob(filepath.Join(images, "*", "*"))
	for i := 0; i < len(paths) && err == nil; i += 50 {
		var info os.FileInfo
		if info, err = os.Stat(paths[i]); err == nil {
			err = os.Truncate(paths[i], info.Size()-20)
		}
	}
	return err
}

// work runs an activity until standard input ends, and reports on it.
func work(ctx context.Context, name, dir string, interval time.Duration) error {
	cpu.KeepSpare()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var units atomic.Int64
	go func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for range tick.C {
			metrics.Read(heap)
			line, err := json.Marshal(report{units.Load(), runtime.NumGoroutine(), heap[0].Value.Uint64()})
			if err == nil {
				_, err = os.Stdout.Write(append(line, '\n'))
			}
			if err != nil {
				cancel() // nobody reads
				return
			}
		}
	}()
	err := activities[name](ctx, dir, rand.New(rand.NewPCG(uint64(os.Getpid()), 0)), &units)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// stream draws pairs without end, and stops and reopens the stream and the
// dataset where it was.
func stream(ctx context.Context, dir string, rng *rand.Rand, units *atomic.Int64) error {
	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		return err
	}
	var position pipeline.Position
	for ctx.Err() == nil {
		dataset, err := shards.Open(filepath.Join(dir, "shards"))
		if err != nil {
			return err
		}
		run, cancel := context.WithCancel(ctx)
		p, err := pipeline.Open(run, pipeline.Config{Dataset: dataset, Recipe: recipe, Size: 96, BatchSize: 16, MaxBad: 0.1, Start: position, Workers: 1 + rng.IntN(3)})
		if err != nil {
			cancel()
			return err
		}
		for left := rng.IntN(200); left > 0 && p.Next(); left-- {
			units.Add(p.Record().NumRows())
		}
		if rng.IntN(2) == 0 {
			cancel()
		}
		if err := p.Err(); err != nil && ctx.Err() == nil {
			cancel()
			return err
		}
		position = p.Position()
		cancel()
		if err := errors.Join(p.Close(), dataset.Close()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// training runs on one output, cancelled at random steps and resumed, until the
// run is long, and then on a new one.
func training(ctx context.Context, dir string, rng *rand.Rand, units *atomic.Int64) error {
	o := train.DefaultOptions()
	o.Shards, o.Output, o.Resume = filepath.Join(dir, "shards"), filepath.Join(dir, "run"), options.Auto
	o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", "small", 0.0625, 8, 4
	o.Size, o.BatchSize, o.Epochs, o.WarmupEpochs = 32, 8, 100, 1
	o.SaveEvery, o.Keep = options.Interval{Steps: 20}, 2
	for ctx.Err() == nil {
		run, cancel := context.WithCancel(ctx)
		left, first := 1+rng.IntN(150), int64(0)
		last, err := train.Run(run, o, func(e train.Event) {
			switch e := e.(type) {
			case train.Started:
				if e.Resumed != nil {
					first = e.Resumed.State.Step
				}
			case train.StepDone:
				units.Add(1)
				if left--; left == 0 {
					cancel()
				}
			}
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		c, openErr := checkpoint.Open(o.Output)
		if openErr != nil {
			if ctx.Err() != nil {
				break // before the first step
			}
			return openErr
		}
		if c.State.Step != last.Step || c.State.Step < first {
			return fmt.Errorf("a run from step %d ended at %d, and its checkpoint is of step %d", first, last.Step, c.State.Step)
		}
		if err == nil { // at its end
			if err := os.RemoveAll(o.Output); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// evaluation shards, verifies, evaluates and exports in turns.
func evaluation(ctx context.Context, dir string, rng *rand.Rand, units *atomic.Int64) error {
	images, masks, data, output := filepath.Join(dir, "images"), filepath.Join(dir, "masks"), filepath.Join(dir, "shards"), filepath.Join(dir, "run")
	o := train.DefaultOptions()
	o.Shards, o.Output = data, output
	o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", "small", 0.0625, 8, 4
	o.Size, o.BatchSize, o.Epochs, o.WarmupEpochs = 32, 8, 1, 0
	if _, err := train.Run(ctx, o, nil); err != nil {
		return err
	}
	e := evaluate.DefaultEncoders()
	e.Checkpoints, e.Untrained, e.Size = []string{output}, true, 64
	probe := evaluate.DefaultProbe()
	probe.Epochs = 2
	steps := []func() error{
		func() error {
			_, err := evaluate.SegmentRun{Encoders: e, Train: images, Masks: masks, Val: images, ValMasks: masks, Probe: probe}.Run(ctx)
			return err
		},
		func() error {
			_, err := evaluate.ClusterRun{Encoders: e, Val: images, ValMasks: masks, Options: evaluate.ClusterOptions{KMeansOptions: evaluate.KMeansOptions{Restarts: 1, Iterations: 10}, Normalize: true}}.Run(ctx)
			return err
		},
		func() error {
			_, err := evaluate.KNNRun{Encoders: e, Train: data, Options: evaluate.NeighborsOptions{K: 3, Temperature: 0.1}}.Run(ctx)
			return err
		},
		func() error {
			_, err := evaluate.MatchRun{Encoders: e, Shards: data, Recipe: "byol", Pairs: 16, Ratio: 0.7}.Run(ctx)
			return err
		},
		func() error {
			for _, format := range weights.FormatNames() {
				if _, err := train.Export(ctx, train.ExportOptions{Checkpoint: output, Format: format, Out: filepath.Join(dir, "backbone")}, nil); err != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			out := filepath.Join(dir, "again")
			if err := os.RemoveAll(out); err != nil {
				return err
			}
			if _, _, err := shards.Write(ctx, shards.WriteConfig{In: images, Out: out, Check: shards.CheckDecode, Workers: 1 + rng.IntN(3)}); err != nil {
				return err
			}
			report, err := shards.Verify(ctx, out, shards.VerifyConfig{Deep: true})
			if err == nil && len(report.Faults) > 0 {
				err = report.Faults[0]
			}
			return err
		},
	}
	for {
		for _, step := range steps {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := step(); err != nil {
				return err
			}
			units.Add(1)
		}
	}
}

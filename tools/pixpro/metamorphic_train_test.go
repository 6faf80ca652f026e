package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// training is a run of a small model.
type training struct {
	pictures int
	options  train.Options
}

func randomTraining(w *world, rng *rand.Rand) training {
	o := train.DefaultOptions()
	o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", "small", 0.0625, 8, 4
	o.Size, o.BatchSize, o.Threads, o.Resume = 32, 4, 1, options.Auto
	// Few kinds, so that undisturbed runs are shared.
	kinds := []func(){
		func() {},
		func() { o.Method = "pixcontrast" },
		func() { o.Accumulate, o.Seed = 2, 1 },
		func() { o.Optimizer, o.BaseLR = "sgd", 0.1 },
		func() { o.Seed, o.LRScheduler, o.LRDecayEpochs = 2, options.Step, []int{1} },
	}
	o.Epochs, o.WarmupEpochs = 2, rng.IntN(2)
	kinds[rng.IntN(len(kinds))]()
	return training{pictures: rng.IntN(2), options: o}
}

// commandLine are the options that are not the default.
func commandLine(o train.Options) []string {
	defaults := train.DefaultOptions()
	var args []string
	for _, r := range o.Rows() {
		if d, _ := defaults.Row(r.Name); d.String() != r.String() {
			args = append(args, "--"+r.Name+"="+r.String())
		}
	}
	return args
}

func (r training) String() string {
	return fmt.Sprintf("training on images%d, %v", r.pictures, commandLine(r.options))
}

func (r training) operations(rng *rand.Rand) []operation {
	names := []string{
		"train: stop", "train: stop", "train: kill", "train: kill", "train: kill", "train: damage the newest checkpoint",
		"train: forget the latest", "train: tear the metrics", "train: leave temporary files", "train: export", "train: move the shards",
	}
	var ops []operation
	for range rng.IntN(7) {
		ops = append(ops, operation{names[rng.IntN(len(names))], 1 + rng.IntN(120)})
	}
	return ops
}

func (r training) dataset(w *world) (string, error) {
	return undisturbed(w, fmt.Sprintf("shards of images%d", r.pictures), func(dir string) (string, error) {
		out := filepath.Join(dir, "shards")
		_, _, err := shards.Write(w.ctx, shards.WriteConfig{In: w.images[r.pictures].dir, Out: out, ShardSize: 8 << 10})
		return out, err
	})
}

// trained is what a run comes to.
type trained struct {
	Files  map[string]checkpoint.Digest
	Losses []float64
}

func outcomeOf(output string) (trained, error) {
	c, err := checkpoint.Open(output)
	if err != nil {
		return trained{}, err
	}
	delete(c.State.Files, "config.yaml") // names the output
	metrics, err := train.ReadMetrics(output)
	t := trained{Files: c.State.Files}
	for i, m := range metrics {
		if m.Step != int64(i+1) {
			return t, fmt.Errorf("line %d of the metrics is of step %d", i+1, m.Step)
		}
		t.Losses = append(t.Losses, m.Loss)
	}
	if int64(len(metrics)) < c.State.Step {
		return t, fmt.Errorf("%d lines of metrics at step %d", len(metrics), c.State.Step)
	}
	return t, err
}

func (r training) begin(w *world, dir string) (state, error) {
	data, err := r.dataset(w)
	if err != nil {
		return nil, err
	}
	want, err := undisturbed(w, r.String(), func(dir string) (trained, error) {
		o := r.options.Clone()
		o.Shards, o.Output = data, filepath.Join(dir, "run")
		if _, err := train.Run(w.ctx, o, nil); err != nil {
			return trained{}, err
		}
		return outcomeOf(o.Output)
	})
	s := &trainingState{training: r, w: w, dir: dir, want: want}
	s.options = r.options.Clone()
	s.options.Shards, s.options.Output = data, filepath.Join(dir, "run")
	return s, err
}

type trainingState struct {
	training
	w    *world
	dir  string
	want trained
}

func (s *trainingState) apply(op operation) error {
	// What a resumed run may change.
	s.options.SaveEvery, s.options.Keep, s.options.Workers = options.Interval{Steps: int64(1 + op.n%3)}, op.n%4, op.n%3
	output := s.options.Output
	names, err := checkpoint.Names(output)
	if err != nil {
		return err
	}
	switch op.name {
	case "train: stop":
		ctx, cancel := context.WithCancel(s.w.ctx)
		defer cancel()
		left := op.n % 9
		_, err := train.Run(ctx, s.options, func(e train.Event) {
			if _, ok := e.(train.StepDone); ok {
				if left--; left <= 0 {
					cancel()
				}
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	case "train: kill":
		if _, err := s.w.killed(op.n, append([]string{"train"}, commandLine(s.options)...)); err != nil {
			return err
		}
	case "train: damage the newest checkpoint":
		if len(names) < 2 || s.sound(names[:len(names)-1]) == "" {
			return nil // a run has to have one to go on from
		}
		newest := filepath.Join(output, checkpoint.Folder, names[len(names)-1])
		files := []string{checkpoint.ModelFile, checkpoint.OptimizerFile, checkpoint.StateFile}
		path := filepath.Join(newest, files[op.n%len(files)])
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[op.n*7919%len(data)] ^= 1
		return os.WriteFile(path, data, 0o666)
	case "train: forget the latest":
		if err := os.Remove(filepath.Join(output, checkpoint.Folder, "latest")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	case "train: tear the metrics":
		f, err := os.OpenFile(filepath.Join(output, train.MetricsFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return nil // none yet
		}
		_, err = f.WriteString(`{"step":12,"loss":2.`)
		return errors.Join(err, f.Close())
	case "train: leave temporary files":
		left := filepath.Join(output, checkpoint.Folder, ".tmp-step-00000003")
		return errors.Join(os.MkdirAll(left, 0o777), os.WriteFile(filepath.Join(left, checkpoint.ModelFile), []byte("half"), 0o666),
			os.WriteFile(filepath.Join(output, train.MetricsFile+".tmp"), []byte("half"), 0o666))
	case "train: export":
		if s.sound(names) == "" {
			return nil
		}
		c, err := checkpoint.Newest(output, func(error) {})
		if err != nil {
			return err
		}
		out := filepath.Join(s.dir, "backbone.safetensors")
		if _, err := train.Export(s.w.ctx, train.ExportOptions{Checkpoint: c.Dir, Out: out}, nil); err != nil {
			return err
		}
		_, err = safetensors.Read(out)
		return err
	case "train: move the shards":
		to := filepath.Join(s.dir, fmt.Sprintf("shards%d", op.n))
		if _, err := os.Stat(to); err == nil {
			return nil
		}
		err := os.CopyFS(to, os.DirFS(s.options.Shards))
		s.options.Shards = to
		return err
	}
	return s.holds()
}

// holds checks what is true at any time: a run that was begun can be gone on
// with, and has the losses of the undisturbed one.
func (s *trainingState) holds() error {
	names, err := checkpoint.Names(s.options.Output)
	if err != nil || len(names) == 0 {
		return err
	}
	if s.sound(names) == "" {
		return fmt.Errorf("no checkpoint of %v is sound", names)
	}
	metrics, err := train.ReadMetrics(s.options.Output)
	if err != nil {
		return err
	}
	for i, m := range metrics {
		if i >= len(s.want.Losses) || m.Loss != s.want.Losses[i] || m.Step != int64(i+1) {
			return fmt.Errorf("line %d of the metrics is step %d with loss %v, undisturbed %v", i+1, m.Step, m.Loss, s.want.Losses)
		}
	}
	return nil
}

// sound is the newest of the checkpoints that is sound, "" if none is.
func (s *trainingState) sound(names []string) string {
	for i := len(names) - 1; i >= 0; i-- {
		c, err := checkpoint.Open(filepath.Join(s.options.Output, checkpoint.Folder, names[i]))
		if err == nil && c != nil {
			return names[i]
		}
	}
	return ""
}

func (s *trainingState) end() error {
	if _, err := train.Run(s.w.ctx, s.options, nil); err != nil {
		return err
	}
	got, err := outcomeOf(s.options.Output)
	if diff := cmp.Diff(s.want, got); err != nil || diff != "" {
		return fmt.Errorf("%v (-undisturbed +disturbed):\n%s", err, diff)
	}
	return nil
}

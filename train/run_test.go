package train

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/options"
)

// TestRun trains from shards to checkpoints, stops, and goes on; its events are
// those of what happened, and its checkpoints those of a run put together by
// hand.
func TestRun(t *testing.T) {
	data := makeShards(t)
	byHand := tiny(data, t.TempDir())
	byHand.Recipe, byHand.Threads = "simclr", 2
	if err := trainFor(t, byHand, 0); err != nil {
		t.Fatal(err)
	}
	_, want := outcome(t, byHand.Output)

	o := byHand
	o.Output, o.Resume = t.TempDir(), options.Auto
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var kinds []string
	steps := 0
	listen := func(e Event) {
		if e.String() == "" {
			t.Errorf("event %T has no text", e)
		}
		kinds = append(kinds, fmt.Sprintf("%T", e))
		switch e := e.(type) {
		case Started:
			if e.Images != 20 || e.TotalSteps != 15 || e.Cells != 4 || e.Parameters == 0 || (e.Resumed != nil) != (steps > 0) {
				t.Errorf("the run starts with %+v", e)
			}
		case StepDone:
			if steps++; steps == 7 {
				cancel()
			}
		}
	}
	if _, err := Run(ctx, o, listen); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled run ends with %v", err)
	}
	step := "train.StepDone"
	events := []string{"train.Started", step, step, step, step, "pipeline.EpochEnd", step, "train.Saved", step, step, "train.Saved"}
	if diff := cmp.Diff(events, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	last, err := Run(t.Context(), o, listen)
	if err != nil || last.Step != 15 || steps != 15 {
		t.Fatalf("the resumed run ends after step %d and %d events with %v", last.Step, steps, err)
	}
	if _, files := outcome(t, o.Output); !cmp.Equal(files, want) {
		t.Error("the run's checkpoint is not that of a trainer with the same options")
	}
	for _, name := range []string{LossFile, MetricsFile} {
		if found, err := filepath.Glob(filepath.Join(o.Output, name)); err != nil || len(found) != 1 {
			t.Errorf("the run left no %s", name)
		}
	}
	if _, err := Run(t.Context(), o, nil); err != nil {
		t.Errorf("a run that has ended, without a listener: %v", err)
	}
}

// TestResumeOnASmallerDataset goes on with shards that have fewer images than
// the run has seen of its epoch.
func TestResumeOnASmallerDataset(t *testing.T) {
	o := tiny(makeShards(t), t.TempDir())
	o.Resume = options.Auto
	if err := trainFor(t, o, 4); !errors.Is(err, context.Canceled) { // 16 of 20 images
		t.Fatal(err)
	}
	in := t.TempDir()
	o.Shards = filepath.Join(t.TempDir(), "shards")
	if err := synth.Generate(t.Context(), in, synth.Options{Images: 8, MinSide: 48, MaxSide: 64}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shards.Write(t.Context(), shards.WriteConfig{In: in, Out: o.Shards}); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "give the shards that the run began with") {
		t.Errorf("8 images give %v", err)
	}
}

// TestRunNamesTheOption has errors that show only when a run begins.
func TestRunNamesTheOption(t *testing.T) {
	data := makeShards(t)
	for name, change := range map[string]func(*Options){
		"batch":     func(o *Options) { o.BatchSize = 21 },
		"size":      func(o *Options) { o.Size = 0 },
		"precision": func(o *Options) { o.Precision = device.TF32 },
		"device":    func(o *Options) { o.Device = "toaster" },
		"recipe":    func(o *Options) { o.Recipe = "nosuch" },
	} {
		o := tiny(data, t.TempDir())
		change(&o)
		var bad *options.Error
		if _, err := Run(t.Context(), o, nil); !errors.As(err, &bad) || bad.Name != name {
			t.Errorf("a bad %s gives %v", name, err)
		}
		if _, err := PlanRun(o); !errors.As(err, &bad) || bad.Name != name {
			t.Errorf("the plan of a bad %s gives %v", name, err)
		}
	}
	o := tiny(data, t.TempDir())
	o.Shards = filepath.Join(data, "nothing")
	if _, err := Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("missing shards give %v", err)
	}
}

// TestSourceMustFit trains on streams of other views than the options say.
func TestSourceMustFit(t *testing.T) {
	dataset, err := shards.Open(makeShards(t))
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*pipeline.Config)
		want   string
	}{
		{func(c *pipeline.Config) {}, ""},
		{func(c *pipeline.Config) { c.Size = 48 }, "option size 32: the source's views are of 48 pixels"},
		{func(c *pipeline.Config) { c.DType = pipeline.Float32 }, "the source's views are float32"},
		{func(c *pipeline.Config) { c.BatchSize = 5 }, "option batch 4: the source has batches of another size"},
		{func(c *pipeline.Config) { c.BatchSize = 2 }, "option batch 4: the source has batches of another size"},
	} {
		cfg := pipeline.Config{Dataset: dataset, Recipe: recipe, Size: 32, BatchSize: 4, Epochs: 3}
		c.change(&cfg)
		src, err := pipeline.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		run, err := New(cpu.New(2), tiny("", t.TempDir()), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = run.Run(t.Context(), src)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("views of %d px, %s, batches of %d give %v, want %q", cfg.Size, cfg.DType, cfg.BatchSize, err, c.want)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}

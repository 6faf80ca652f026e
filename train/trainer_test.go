package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// makeShards makes a dataset of 20 small pictures.
func makeShards(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	images, out := filepath.Join(dir, "images"), filepath.Join(dir, "shards")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 20, MinSide: 48, MaxSide: 64}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shards.Write(t.Context(), shards.WriteConfig{In: images, Out: out}); err != nil {
		t.Fatal(err)
	}
	return out
}

// tiny is a run of 3 epochs of 5 steps.
func tiny(shards, output string) Options {
	c := DefaultOptions()
	c.Shards, c.Output = shards, output
	c.Arch, c.Stem, c.Width, c.HeadHidden, c.HeadDim = "resnet18", model.StemSmall, 0.0625, 8, 4
	c.Size, c.BatchSize, c.Epochs, c.WarmupEpochs, c.BaseLR = 32, 4, 3, 1, 16
	return c
}

// trainFor runs cfg and cancels it after stop steps, or never if that is 0.
func trainFor(t *testing.T, cfg Options, stop int) error {
	t.Helper()
	return trainWith(t, cfg, stop, atomicfile.OS)
}

// trainWith is trainFor with files that may fail.
func trainWith(t *testing.T, cfg Options, stop int, files atomicfile.FS) error {
	t.Helper()
	return trainOn(t, cpu.New(2), cfg, stop, files)
}

// trainOn is trainWith on a device.
func trainOn(t *testing.T, d device.Device, cfg Options, stop int, files atomicfile.FS) error {
	t.Helper()
	return trainListening(t, d, cfg, stop, files, func(Event) {})
}

// trainListening is trainOn with a listener.
func trainListening(t *testing.T, d device.Device, cfg Options, stop int, files atomicfile.FS, l Listener) error {
	t.Helper()
	dataset, err := shards.Open(cfg.Shards)
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run, err := New(d, cfg, func(e Event) {
		l(e)
		switch e.(type) {
		case UnsoundCheckpoint:
			t.Log(e)
		case StepDone:
			if stop--; stop == 0 {
				cancel()
			}
		}
	})
	if err != nil {
		return err
	}
	run.files = files
	recipe, err := augment.LookupRecipe(cfg.Recipe)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.Open(context.Background(), pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: cfg.Size, BatchSize: cfg.BatchSize, Seed: cfg.Seed,
		Epochs: cfg.Epochs, Start: run.Position(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	return run.Run(ctx, p)
}

// outcome is what a run leaves that must not depend on how it was interrupted.
func outcome(t *testing.T, output string) ([]Metrics, map[string]checkpoint.Digest) {
	t.Helper()
	metrics, err := ReadMetrics(output)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(output)
	if err != nil {
		t.Fatal(err)
	}
	delete(c.State.Files, checkpoint.ConfigFile) // names the output folder
	return metrics, c.State.Files
}

func TestResumedRunEqualsUnbrokenRun(t *testing.T) {
	data := makeShards(t)
	whole := tiny(data, t.TempDir())
	if err := trainFor(t, whole, 0); err != nil {
		t.Fatal(err)
	}
	wantMetrics, wantFiles := outcome(t, whole.Output)
	if len(wantMetrics) != 15 {
		t.Fatalf("%d steps were recorded, want 15", len(wantMetrics))
	}
	for i, m := range wantMetrics {
		if m.Step != int64(i+1) || m.Epoch != int64(i/5+1) || math.Abs(m.Loss) > 4 || m.PairsPerSecond <= 0 {
			t.Errorf("step %d is recorded as %+v", i+1, m)
		}
	}
	again := tiny(data, t.TempDir())
	if err := trainFor(t, again, 0); err != nil {
		t.Fatal(err)
	}
	if _, files := outcome(t, again.Output); !cmp.Equal(wantFiles, files) {
		t.Error("two runs of one seed write different checkpoints")
	}
	stopAt := [][]int{{1}, {5}, {3, 4, 6}} // the second at the end of an epoch
	if !testing.Short() {
		rng := rand.New(rand.NewPCG(1, 1))
		for range 20 {
			stopAt = append(stopAt, []int{1 + rng.IntN(14)})
		}
	}
	for _, stops := range stopAt {
		broken := tiny(data, t.TempDir())
		broken.Resume = "auto"
		for _, stop := range stops {
			if err := trainFor(t, broken, stop); !errors.Is(err, context.Canceled) {
				t.Fatalf("a cancelled run returned %v", err)
			}
		}
		if err := trainFor(t, broken, 0); err != nil {
			t.Fatal(err)
		}
		metrics, files := outcome(t, broken.Output)
		if diff := cmp.Diff(wantMetrics, metrics, cmpopts.IgnoreFields(Metrics{}, "PairsPerSecond", "DataWaitSeconds")); diff != "" {
			t.Errorf("stopped after %v: metrics (-unbroken +resumed):\n%s", stops, diff)
		}
		if diff := cmp.Diff(wantFiles, files); diff != "" {
			t.Errorf("stopped after %v: final checkpoint (-unbroken +resumed):\n%s", stops, diff)
		}
	}
}

// TestThreadsChangeNoBit: checkpoints are the same for any number of threads, and a run
// may go on with another one. Its layers are wide enough for every way to convolve.
func TestThreadsChangeNoBit(t *testing.T) {
	data := makeShards(t)
	run := func(threads ...int) map[string]checkpoint.Digest {
		o := tiny(data, t.TempDir())
		o.Stem, o.Width, o.HeadHidden, o.HeadDim, o.Epochs, o.Resume = model.StemImageNet, 0.5, 64, 32, 2, options.Auto
		for i, n := range threads {
			o.Threads = n
			stop := 0
			if i < len(threads)-1 {
				stop = 3 * (i + 1)
			}
			if err := trainOn(t, cpu.New(n), o, stop, atomicfile.OS); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		_, files := outcome(t, o.Output)
		return files
	}
	want := run(1)
	others := [][]int{{2}, {3}, {8}, {2, 1, 5}}
	if testing.Short() {
		others = [][]int{{2, 1, 3}}
	}
	for _, threads := range others {
		if diff := cmp.Diff(want, run(threads...)); diff != "" {
			t.Errorf("%v threads write another checkpoint than one (-one +these):\n%s", threads, diff)
		}
	}
}

// TestBF16FallsAlike: losses in bf16 follow those in float32, and do not equal them; the
// same run has the same bits, whatever the number of threads.
func TestBF16FallsAlike(t *testing.T) {
	data := makeShards(t)
	run := func(d device.Device) ([]Metrics, map[string]checkpoint.Digest) {
		o := tiny(data, t.TempDir())
		o.Width, o.HeadHidden, o.HeadDim, o.Epochs, o.BaseLR = 0.25, 64, 32, 4, 1
		if err := trainOn(t, d, o, 0, atomicfile.OS); err != nil {
			t.Fatal(err)
		}
		return outcome(t, o.Output)
	}
	rounded, files := run(cpu.NewBF16(2))
	if testing.Short() {
		return // that it runs
	}
	exact, _ := run(cpu.New(2))
	again, same := run(cpu.NewBF16(3))
	worst := 0.0
	for i := range exact {
		worst = max(worst, math.Abs(rounded[i].Loss-exact[i].Loss))
		if rounded[i].Loss != again[i].Loss {
			t.Errorf("step %d has loss %v, and %v on other threads", i+1, rounded[i].Loss, again[i].Loss)
		}
	}
	t.Logf("losses differ by up to %.2g", worst)
	if worst == 0 || worst > 3e-2 || exact[len(exact)-1].Loss > -2 {
		t.Errorf("losses in bf16 differ by %.2g from those in float32, which end at %.2g: want some, at most 3e-2, of losses that fall", worst, exact[len(exact)-1].Loss)
	}
	if diff := cmp.Diff(files, same); diff != "" {
		t.Errorf("the same run on other threads (-two +three):\n%s", diff)
	}
}

func TestResumePassesOverDamagedCheckpoints(t *testing.T) {
	data := makeShards(t)
	whole := tiny(data, t.TempDir())
	if err := trainFor(t, whole, 0); err != nil {
		t.Fatal(err)
	}
	_, want := outcome(t, whole.Output)

	cfg := tiny(data, t.TempDir())
	cfg.SaveEvery, cfg.Resume = options.Interval{Steps: 2}, "auto"
	if err := trainFor(t, cfg, 7); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	names, err := checkpoint.Names(cfg.Output)
	if err != nil || len(names) != cfg.Keep {
		t.Fatalf("checkpoints %v (%v), want the last %d", names, err, cfg.Keep)
	}
	damage := func(i int, file string, how func(string) error) {
		if err := how(filepath.Join(cfg.Output, checkpoint.Folder, names[len(names)-i], file)); err != nil {
			t.Fatal(err)
		}
	}
	damage(1, checkpoint.ModelFile, func(p string) error { return os.Truncate(p, 1000) })
	damage(2, checkpoint.StateFile, os.Remove)
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	if _, got := outcome(t, cfg.Output); !cmp.Equal(want, got) {
		t.Error("the final checkpoint differs from the unbroken run's")
	}
}

// TestPruningKeepsWhatWasJustSaved resumes before a damaged checkpoint and
// stops before its step: the damaged one is not the newest to keep.
func TestPruningKeepsWhatWasJustSaved(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	cfg.SaveEvery, cfg.Resume, cfg.Keep = options.Interval{Steps: 4}, "auto", 2
	if err := trainFor(t, cfg, 8); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	spoil := func(step int64) {
		if err := os.Truncate(filepath.Join(cfg.Output, checkpoint.Folder, checkpoint.StepName(step), checkpoint.ModelFile), 10); err != nil {
			t.Fatal(err)
		}
	}
	spoil(8)
	cfg.Keep = 1
	if err := trainFor(t, cfg, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	names, err := checkpoint.Names(cfg.Output)
	if diff := cmp.Diff([]string{checkpoint.StepName(6), checkpoint.StepName(8)}, names); err != nil || diff != "" {
		t.Errorf("checkpoints are %v (%v), want that of step 6 and the damaged one", names, err)
	}
	spoil(6)
	if err := trainFor(t, cfg, 0); err == nil || !strings.Contains(err.Error(), "none of the 2 checkpoints") {
		t.Errorf("without a sound checkpoint the run ends with %v", err)
	}
}

func TestNewRefusesWhatWouldGoWrong(t *testing.T) {
	data := makeShards(t)
	cfg := tiny(data, t.TempDir())
	if err := trainFor(t, cfg, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	other := tiny(data, t.TempDir())
	if err := trainFor(t, other, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"a used output", func(c *Options) {}, "continue it with resume auto"},
		{"another width", func(c *Options) { c.Resume, c.Width = "auto", 0.125 }, "width was 0.0625, not 0.125"},
		{"another learning rate", func(c *Options) { c.Resume, c.BaseLR = "auto", 1 }, "base-lr was 16, not 1"},
		{"another decay", func(c *Options) { c.Resume, c.LRDecayRate = "auto", 0.5 }, "lr-decay-rate was 0.1, not 0.5"},
		{"another seed", func(c *Options) { c.Resume, c.Seed = "auto", 9 }, "seed was 0, not 9"},
		{"another run's output", func(c *Options) { c.Resume = filepath.Join(other.Output, checkpoint.Folder, checkpoint.StepName(2)) }, "of another run"},
		{"no such checkpoint", func(c *Options) { c.Resume = filepath.Join(data, "nothing") }, "unsound checkpoint"},
		{"a size beyond memory", func(c *Options) { c.Size = 2_000_000_000 }, "size 2000000000: must be from 1 to 8192"},
		{"no step at all", func(c *Options) { c.Output, c.Accumulate = filepath.Join(other.Output, "new"), 100 }, "not enough for a step"},
		{"a bad option", func(c *Options) { c.Epochs = 0 }, "epochs 0: must be at least 1"},
	} {
		changed := cfg
		c.change(&changed)
		if err := trainFor(t, changed, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestDivergedRunNamesItsImages(t *testing.T) {
	data := makeShards(t)
	cfg := tiny(data, t.TempDir())
	run, err := New(cpu.New(1), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := run.engine.model.Trained()[0]
	values := p.Read(run.engine.device)
	values[0] = float32(math.NaN())
	if err := p.Load(run.engine.device, values); err != nil {
		t.Fatal(err)
	}
	dataset, err := shards.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	recipe, err := augment.LookupRecipe("none")
	if err != nil {
		t.Fatal(err)
	}
	src, err := pipeline.Open(t.Context(), pipeline.Config{Dataset: dataset, Recipe: recipe, Size: cfg.Size, BatchSize: cfg.BatchSize})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	err = run.Run(t.Context(), src)
	if err == nil || !strings.Contains(err.Error(), "step 1: the loss is NaN") || !strings.Contains(err.Error(), ".jpg") {
		t.Errorf("a run that diverges ends with %v", err)
	}
	saved, err := checkpoint.Open(filepath.Join(cfg.Output, divergedDir))
	if err != nil {
		t.Fatal(err)
	}
	if saved.State.Step != 0 || saved.State.Position != (pipeline.Position{}) || saved.State.Recipe != recipe || saved.State.Dataset != dataset.Digest() {
		t.Errorf("the state that it leaves is %+v", saved.State)
	}
	c := checkpoint.Contents{Model: []safetensors.Tensor{safetensors.New("w", []int{2}, []float32{1, float32(math.Inf(1))})}}
	if err := c.CheckFinite(); err == nil || !strings.Contains(err.Error(), "w holds +Inf") {
		t.Errorf("a checkpoint with an infinite parameter gives %v", err)
	}
}

// TestResumeOnOtherPairsIsRefused resumes with as many other images, and with a
// recipe that was changed under its name.
func TestResumeOnOtherPairsIsRefused(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	if err := trainFor(t, cfg, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	cfg.Resume = "auto"
	images := t.TempDir()
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 20, Seed: 99, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Shards = filepath.Join(t.TempDir(), "shards")
	if _, _, err := shards.Write(t.Context(), shards.WriteConfig{In: images, Out: other.Shards}); err != nil {
		t.Fatal(err)
	}
	if err := trainFor(t, other, 0); err == nil || !strings.Contains(err.Error(), "other contents") {
		t.Errorf("other images: %v", err)
	}
	saved, err := checkpoint.Open(cfg.Output)
	if err != nil {
		t.Fatal(err)
	}
	run := Trainer{cfg: cfg, resumed: saved}
	src := fakeSource{saved.State}
	if err := run.checkSource(src); err != nil {
		t.Error(err)
	}
	src.state.Recipe.Views[1].Blur = 0.3
	if err := run.checkSource(src); err == nil || !strings.Contains(err.Error(), "recipe") {
		t.Errorf("another recipe of the same name: %v", err)
	}
}

// fakeSource has the pairs that a state tells of.
type fakeSource struct{ state checkpoint.State }

func (s fakeSource) Schema() *arrow.Schema {
	schema, err := pipeline.Schema(32, pipeline.Uint8, s.state.Recipe, s.state.Seed)
	if err != nil {
		panic(err)
	}
	return schema
}
func (s fakeSource) Next() bool                  { return false }
func (s fakeSource) Record() arrow.Record        { return nil }
func (s fakeSource) Err() error                  { return nil }
func (s fakeSource) Position() pipeline.Position { return s.state.Position }
func (s fakeSource) BatchesPerEpoch() int64      { return s.state.StepsPerEpoch }
func (s fakeSource) PairsPerEpoch() int64        { return s.state.Samples }
func (s fakeSource) Dataset() string             { return s.state.Dataset }
func (s fakeSource) Recipe() augment.Recipe      { return s.state.Recipe }

package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// someContents is a small checkpoint whose tensors are made of its step.
func someContents(output string, step int64) checkpoint.Contents {
	cfg := DefaultOptions()
	cfg.Output = output
	v := float32(step)
	return checkpoint.Contents{
		State:     checkpoint.State{Step: step, Samples: 20, StepsPerEpoch: 5},
		Options:   cfg,
		Model:     []safetensors.Tensor{safetensors.New("a", []int{2}, []float32{v, -v}), safetensors.New("b", nil, []float32{v})},
		Optimizer: []safetensors.Tensor{safetensors.New("a", []int{2}, []float32{v, v})},
	}
}

// checkContents checks that a checkpoint is whole and holds what its step says.
func checkContents(t *testing.T, c *checkpoint.Checkpoint) {
	t.Helper()
	f, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := f.Tensor("b"); !ok || !bytes.Equal(b.Data, someContents("", c.State.Step).Model[1].Data) {
		t.Errorf("checkpoint of step %d holds another's parameters", c.State.Step)
	}
}

func mustSave(t *testing.T, output string, step int64) {
	t.Helper()
	if _, err := checkpoint.Save(checkpoint.OS, output, someContents(output, step)); err != nil {
		t.Fatal(err)
	}
}

// TestSaveFailsAtEveryOperation lets every operation of a save fail in turn,
// alone and with all that follow it. What was saved before is never harmed,
// and the next save succeeds.
func TestSaveFailsAtEveryOperation(t *testing.T) {
	for _, dead := range []bool{false, true} {
		operations := 0
		for n := 1; ; n++ {
			output := t.TempDir()
			mustSave(t, output, 1)
			f := &atomicfiletest.FS{FailAt: n, Stays: dead}
			_, err := checkpoint.Save(f, output, someContents(output, 2))
			if f.Failed == "" {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			operations++
			if !errors.Is(err, atomicfiletest.ErrInjected) {
				t.Errorf("%s failed, and the save returned %v", f.Failed, err)
			}
			newest, err := checkpoint.Newest(output, func(err error) { t.Errorf("%s failed: unsound: %v", f.Failed, err) })
			if err != nil || newest == nil {
				t.Fatalf("%s failed: no checkpoint is left (%v)", f.Failed, err)
			}
			checkContents(t, newest)
			noted, err := checkpoint.Open(output)
			if err != nil {
				t.Fatalf("%s failed: the latest cannot be opened: %v", f.Failed, err)
			}
			checkContents(t, noted)

			mustSave(t, output, 3)
			if noted, err = checkpoint.Open(output); err != nil || noted.State.Step != 3 {
				t.Fatalf("%s failed: the next save is not the latest: %v", f.Failed, err)
			}
			checkContents(t, noted)
			if left, _ := filepath.Glob(filepath.Join(output, checkpoint.Folder, ".tmp-*")); len(left) > 0 {
				t.Errorf("%s failed: %v stayed behind", f.Failed, left)
			}
		}
		if operations < 30 {
			t.Errorf("only %d operations were seen", operations)
		}
		t.Logf("%d operations, all later ones too: %v", operations, dead)
	}
}

// TestTrainingSurvivesFailedSaves lets operations of a real run's saves fail
// and resumes it: the final parameters are those of an unbroken run.
func TestTrainingSurvivesFailedSaves(t *testing.T) {
	data := makeShards(t)
	whole := tiny(data, t.TempDir())
	if err := trainFor(t, whole, 0); err != nil {
		t.Fatal(err)
	}
	_, want := outcome(t, whole.Output)
	stride := 149 // of about 950 operations
	if testing.Short() {
		stride = 400
	}
	broken := 0
	for n := 1; ; n += stride {
		cfg := tiny(data, t.TempDir())
		cfg.Resume, cfg.Keep = "auto", 1
		f := &atomicfiletest.FS{FailAt: n, Stays: broken%2 == 1}
		err := trainWith(t, cfg, 0, f)
		if f.Failed == "" {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		broken++
		if !errors.Is(err, atomicfiletest.ErrInjected) {
			t.Errorf("operation %d (%s) failed, and the run returned %v", n, f.Failed, err)
		}
		if err := trainFor(t, cfg, 0); err != nil {
			t.Fatalf("operation %d (%s) failed, and the run cannot be resumed: %v", n, f.Failed, err)
		}
		if _, got := outcome(t, cfg.Output); !cmp.Equal(want, got) {
			t.Errorf("operation %d (%s) failed: the resumed run ends with other parameters", n, f.Failed)
		}
	}
	if broken == 0 {
		t.Error("no operation was seen")
	}
	t.Logf("%d runs were broken", broken)
}

// TestHalfDeletedCheckpointIsPassedOver deletes and damages the newest
// checkpoint's files in every way that leaves something of it.
func TestHalfDeletedCheckpointIsPassedOver(t *testing.T) {
	names := []string{checkpoint.ModelFile, checkpoint.OptimizerFile, checkpoint.ConfigFile, checkpoint.StateFile}
	for deleted := 1; deleted < 1<<len(names); deleted++ {
		output := t.TempDir()
		mustSave(t, output, 1)
		mustSave(t, output, 2)
		for i, name := range names {
			if deleted>>i&1 == 1 {
				if err := os.Remove(filepath.Join(output, checkpoint.Folder, checkpoint.StepName(2), name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		checkPassedOver(t, output, fmt.Sprintf("without %04b of %v", deleted, names))
	}
	for _, name := range names {
		output := t.TempDir()
		mustSave(t, output, 1)
		mustSave(t, output, 2)
		path := filepath.Join(output, checkpoint.Folder, checkpoint.StepName(2), name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, len(whole) / 2, len(whole) - 2} {
			if err := os.WriteFile(path, whole[:size], 0o666); err != nil {
				t.Fatal(err)
			}
			checkPassedOver(t, output, fmt.Sprintf("with %d bytes of %s", size, name))
		}
		changed := bytes.Clone(whole)
		changed[bytes.LastIndexByte(bytes.TrimSpace(changed), '2')] ^= 1 // in state.json a digit of its sum, at the latest
		if err := os.WriteFile(path, changed, 0o666); err != nil {
			t.Fatal(err)
		}
		checkPassedOver(t, output, "with a changed byte in "+name)
		if name != checkpoint.StateFile {
			continue
		}
		// Any byte of the state: it is found, or names a field that is 0 anyway.
		var want checkpoint.State
		if err := json.Unmarshal(whole, &want); err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			changed := bytes.Clone(whole)
			changed[i] ^= 1
			if err := os.WriteFile(path, changed, 0o666); err != nil {
				t.Fatal(err)
			}
			c, err := checkpoint.Open(filepath.Dir(path))
			if err == nil && !cmp.Equal(c.State, want) || err != nil && !errors.Is(err, checkpoint.ErrUnsound) {
				t.Errorf("with byte %d of %s changed: %+v (%v)", i, name, c, err)
			}
		}
	}
}

func checkPassedOver(t *testing.T, output, how string) {
	t.Helper()
	passed := 0
	c, err := checkpoint.Newest(output, func(err error) {
		passed++
		if !strings.Contains(err.Error(), checkpoint.StepName(2)) {
			t.Errorf("%s: the warning does not name the folder: %v", how, err)
		}
	})
	if err != nil || c == nil || c.State.Step != 1 || passed != 1 {
		t.Errorf("%s: found %+v after passing over %d (%v), want step 1", how, c, passed, err)
	}
	if _, err := checkpoint.Open(output); !errors.Is(err, checkpoint.ErrUnsound) {
		t.Errorf("%s: opened as sound: %v", how, err)
	}
}

// TestPruneKeepsTheLatest has damaged checkpoints of later steps, which must
// not push the sound one out.
func TestPruneKeepsTheLatest(t *testing.T) {
	output := t.TempDir()
	for _, step := range []int64{2, 4, 5, 8} {
		mustSave(t, output, step)
	}
	if err := checkpoint.Prune(checkpoint.OS, output, 1, 5, func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	names, err := checkpoint.Names(output)
	if diff := cmp.Diff([]string{checkpoint.StepName(5), checkpoint.StepName(8)}, names); err != nil || diff != "" {
		t.Errorf("left %v: %s", err, diff)
	}
}

// TestDamagedCheckpointsDoNotCount damages older checkpoints of a run that keeps
// two: a resumed one keeps two that are sound, and what is damaged among them.
func TestDamagedCheckpointsDoNotCount(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	cfg.Resume, cfg.Keep, cfg.SaveEvery = options.Auto, 0, options.Interval{Steps: 1}
	if err := trainFor(t, cfg, 9); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, step := range []int64{4, 7, 9} {
		if err := os.Truncate(filepath.Join(cfg.Output, checkpoint.Folder, checkpoint.StepName(step), checkpoint.OptimizerFile), 9); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Keep = 2
	for _, c := range []struct {
		steps int
		want  []int64
	}{
		{0, []int64{6, 7, 8, 9}}, // on beginning: 9 is behind, 7 is damaged
		{1, []int64{8, 9}},
	} {
		var names []string
		if c.steps == 0 {
			if err := cancelledBeforeAStep(t, cfg); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		} else if err := trainFor(t, cfg, c.steps); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, step := range c.want {
			names = append(names, checkpoint.StepName(step))
		}
		got, err := checkpoint.Names(cfg.Output)
		if diff := cmp.Diff(names, got); err != nil || diff != "" {
			t.Errorf("after %d steps (%v), want those and no others:\n%s", c.steps, err, diff)
		}
	}
}

// cancelledBeforeAStep runs cfg without time for a step.
func cancelledBeforeAStep(t *testing.T, cfg Options) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, cfg, nil)
	return err
}

// TestReadersSeeWholeCheckpoints reads an output while a run saves there and
// keeps no more than the last checkpoint.
func TestReadersSeeWholeCheckpoints(t *testing.T) {
	output := t.TempDir()
	mustSave(t, output, 1)
	const steps = 300
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for step := int64(2); step <= steps; step++ {
			_, err := checkpoint.Save(checkpoint.OS, output, someContents(output, step))
			if err == nil {
				err = checkpoint.Prune(checkpoint.OS, output, 1, step, func(string) bool { return true })
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	reads, different := 0, map[int64]bool{}
	for !done.Load() {
		w, err := ReadWeights(output)
		if err != nil {
			t.Errorf("after %d reads: %v", reads, err)
			break
		}
		step := w.Checkpoint.State.Step
		if want := someContents(output, step).Model; !bytes.Equal(w.Tensors[0].Data, want[0].Data) {
			t.Errorf("the checkpoint of step %d has the tensors of another", step)
		}
		reads++
		different[step] = true
	}
	wg.Wait()
	if len(different) < 3 {
		t.Errorf("%d reads saw only %d checkpoints: nothing was tested", reads, len(different))
	}
	t.Logf("%d reads of %d checkpoints", reads, len(different))
}

// TestLatestIsFoundWithoutItsNote is the state of a run that was killed before
// it could write the note for the first time.
func TestLatestIsFoundWithoutItsNote(t *testing.T) {
	output := t.TempDir()
	mustSave(t, output, 1)
	if err := os.Remove(filepath.Join(output, checkpoint.Folder, checkpoint.LatestFile)); err != nil {
		t.Fatal(err)
	}
	if c, err := checkpoint.Open(output); err != nil || c.State.Step != 1 {
		t.Errorf("found %+v, %v", c, err)
	}
	if err := os.RemoveAll(filepath.Join(output, checkpoint.Folder, checkpoint.StepName(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Open(output); !errors.Is(err, checkpoint.ErrUnsound) {
		t.Errorf("an output without checkpoints gives %v", err)
	}
}

// TestResumeCompletesTheLastSave has the state of a run that was killed at its
// end, when its last checkpoint had got its name but was not yet noted as the
// latest.
func TestResumeCompletesTheLastSave(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	cfg.Resume, cfg.Keep, cfg.SaveEvery = "auto", 1, options.Interval{Epochs: 1}
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cfg.Output, checkpoint.Folder)
	older, newest := checkpoint.StepName(10), checkpoint.StepName(15)
	if err := os.CopyFS(filepath.Join(root, older), os.DirFS(filepath.Join(root, newest))); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.NoteLatest(checkpoint.OS, cfg.Output, older); err != nil {
		t.Fatal(err)
	}

	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	if name, err := checkpoint.Latest(cfg.Output); err != nil || name != newest {
		t.Errorf("the latest is %s (%v), want %s", name, err, newest)
	}
	names, err := checkpoint.Names(cfg.Output)
	if diff := cmp.Diff([]string{newest}, names); err != nil || diff != "" {
		t.Errorf("left %v: %s", err, diff)
	}
}

// brokenSource ends with an error after some batches.
type brokenSource struct {
	*pipeline.Pipeline
	left   int
	failed bool
}

var errRead = errors.New("input/output error")

func (s *brokenSource) Next() bool {
	s.left--
	s.failed = s.left < 0
	return !s.failed && s.Pipeline.Next()
}

func (s *brokenSource) Err() error {
	if s.failed {
		return errRead
	}
	return s.Pipeline.Err()
}

// TestFailedReadInsideAStep loses the source before a step of three batches and
// inside of it, which is not saved: the resumed run ends as an unbroken one.
func TestFailedReadInsideAStep(t *testing.T) {
	data := makeShards(t)
	configure := func() Options {
		cfg := tiny(data, t.TempDir())
		cfg.Accumulate, cfg.Resume, cfg.SaveEvery = 3, "auto", options.Interval{} // at the end
		return cfg
	}
	whole := configure()
	if err := trainFor(t, whole, 0); err != nil {
		t.Fatal(err)
	}
	_, want := outcome(t, whole.Output)
	for batches, saved := range map[int]bool{6: true, 7: false, 8: false} {
		cfg := configure()
		dataset, err := shards.Open(cfg.Shards)
		if err != nil {
			t.Fatal(err)
		}
		defer dataset.Close()
		recipe, err := augment.LookupRecipe(cfg.Recipe)
		if err != nil {
			t.Fatal(err)
		}
		run, err := New(cpu.New(2), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.Open(t.Context(), pipeline.Config{Dataset: dataset, Recipe: recipe, Size: cfg.Size, BatchSize: cfg.BatchSize, Epochs: cfg.Epochs})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := run.Run(t.Context(), &brokenSource{Pipeline: p, left: batches}); !errors.Is(err, errRead) {
			t.Fatalf("after %d batches: %v", batches, err)
		}
		if names, err := checkpoint.Names(cfg.Output); err != nil || saved != (len(names) > 0) {
			t.Errorf("after %d batches there are checkpoints %v (%v)", batches, names, err)
		}
		if err := trainFor(t, cfg, 0); err != nil {
			t.Fatal(err)
		}
		if _, got := outcome(t, cfg.Output); !cmp.Equal(want, got) {
			t.Errorf("broken after %d batches, the resumed run ended differently", batches)
		}
	}
}

// TestCopiesAreNoCheckpoints has folders beside the checkpoints that somebody
// put there.
func TestCopiesAreNoCheckpoints(t *testing.T) {
	output := t.TempDir()
	mustSave(t, output, 4)
	mustSave(t, output, 10)
	root := filepath.Join(output, checkpoint.Folder)
	for _, name := range []string{"step-00000004-good", "step-000000012", "step-12", "step--0000001"} {
		if err := os.CopyFS(filepath.Join(root, name), os.DirFS(filepath.Join(root, checkpoint.StepName(4)))); err != nil {
			t.Fatal(err)
		}
	}
	c, err := checkpoint.Newest(output, func(err error) { t.Error(err) })
	if err != nil || c.State.Step != 10 {
		t.Errorf("the newest is %+v (%v), want that of step 10", c, err)
	}
}

// TestMetricsOfARunInAnotherOutput has a run that goes on in a folder of its
// own, is broken with a damaged line at the end of its metrics, and goes on again.
func TestMetricsOfARunInAnotherOutput(t *testing.T) {
	data := makeShards(t)
	base := tiny(data, t.TempDir())
	if err := trainFor(t, base, 6); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	cfg := tiny(data, t.TempDir())
	cfg.Resume = filepath.Join(base.Output, checkpoint.Folder, checkpoint.StepName(6))
	if err := trainFor(t, cfg, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if names, err := checkpoint.Names(cfg.Output); err != nil || !cmp.Equal(names, []string{checkpoint.StepName(8)}) {
		t.Errorf("the new output has %v (%v)", names, err)
	}
	f, err := os.OpenFile(filepath.Join(cfg.Output, MetricsFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"step\":9,\"lo\x00\x00\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	cfg.Resume = "auto"
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	metrics, want := outcome(t, cfg.Output)
	if len(metrics) != 9 || metrics[0].Step != 7 || metrics[8].Step != 15 {
		t.Errorf("the metrics are %+v, want those of steps 7 to 15", metrics)
	}
	// What has ended is saved in a new output, too.
	ended := tiny(data, t.TempDir())
	ended.Resume = cfg.Output
	if err := trainFor(t, ended, 0); err != nil {
		t.Fatal(err)
	}
	if c, err := checkpoint.Open(ended.Output); err != nil || c.State.Files[checkpoint.ModelFile] != want[checkpoint.ModelFile] {
		t.Errorf("an ended run's checkpoint in a new output is %+v (%v)", c, err)
	}
}

// TestMetricsSurviveACutLine has a line that a killed run or a loss of power
// left unfinished.
func TestMetricsSurviveACutLine(t *testing.T) {
	data := makeShards(t)
	cfg := tiny(data, t.TempDir())
	cfg.Resume = "auto"
	if err := trainFor(t, cfg, 6); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(cfg.Output, MetricsFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"step\":7,\"lo\x00\x00\n{\"step\":8"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	if metrics, _ := outcome(t, cfg.Output); len(metrics) != 15 {
		t.Errorf("%d steps are recorded, want 15", len(metrics))
	}
}

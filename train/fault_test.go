package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
	"github.com/seed-436d2970/pixpro/internal/safetensors"
)

// someContents is a small checkpoint whose tensors are made of its step.
func someContents(output string, step int64) contents {
	cfg := Default()
	cfg.Output = output
	v := float32(step)
	return contents{
		state:     State{Step: step, Samples: 20, StepsPerEpoch: 5},
		config:    cfg,
		model:     []safetensors.Tensor{safetensors.New("a", []int64{2}, []float32{v, -v}), safetensors.New("b", nil, []float32{v})},
		optimizer: []safetensors.Tensor{safetensors.New("a", []int64{2}, []float32{v, v})},
	}
}

// checkContents checks that a checkpoint is whole and holds what its step says.
func checkContents(t *testing.T, c *Checkpoint) {
	t.Helper()
	f, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := f.Tensor("b"); !ok || !bytes.Equal(b.Data, someContents("", c.State.Step).model[1].Data) {
		t.Errorf("checkpoint of step %d holds another's parameters", c.State.Step)
	}
}

func mustSave(t *testing.T, output string, step int64) {
	t.Helper()
	if _, err := save(atomicfile.OS, output, someContents(output, step)); err != nil {
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
			f := &atomicfiletest.FS{FailAt: n, PowerCut: dead}
			_, err := save(f, output, someContents(output, 2))
			if dead {
				err = errors.Join(err, f.LoseUnflushed())
			}
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
			newest, err := newestCheckpoint(output, func(err error) { t.Errorf("%s failed: unsound: %v", f.Failed, err) })
			if err != nil || newest == nil {
				t.Fatalf("%s failed: no checkpoint is left (%v)", f.Failed, err)
			}
			checkContents(t, newest)
			noted, err := OpenCheckpoint(output)
			if err != nil {
				t.Fatalf("%s failed: the latest cannot be opened: %v", f.Failed, err)
			}
			checkContents(t, noted)

			mustSave(t, output, 3)
			if noted, err = OpenCheckpoint(output); err != nil || noted.State.Step != 3 {
				t.Fatalf("%s failed: the next save is not the latest: %v", f.Failed, err)
			}
			checkContents(t, noted)
			if left, _ := filepath.Glob(filepath.Join(output, checkpointsDir, temporary+"*")); len(left) > 0 {
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
		f := &atomicfiletest.FS{FailAt: n, PowerCut: broken%2 == 1}
		err := trainWith(t, cfg, 0, f)
		if f.PowerCut {
			err = errors.Join(err, f.LoseUnflushed())
		}
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
	names := []string{modelFile, optimizerFile, configFile, stateFile}
	for deleted := 1; deleted < 1<<len(names); deleted++ {
		output := t.TempDir()
		mustSave(t, output, 1)
		mustSave(t, output, 2)
		for i, name := range names {
			if deleted>>i&1 == 1 {
				if err := os.Remove(filepath.Join(output, checkpointsDir, stepName(2), name)); err != nil {
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
		path := filepath.Join(output, checkpointsDir, stepName(2), name)
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
		if !bytes.Equal(whole, changed) {
			checkPassedOver(t, output, "with a changed byte in "+name)
		}
	}
}

func checkPassedOver(t *testing.T, output, how string) {
	t.Helper()
	passed := 0
	c, err := newestCheckpoint(output, func(err error) {
		passed++
		if !strings.Contains(err.Error(), stepName(2)) {
			t.Errorf("%s: the warning does not name the folder: %v", how, err)
		}
	})
	if err != nil || c == nil || c.State.Step != 1 || passed != 1 {
		t.Errorf("%s: found %+v after passing over %d (%v), want step 1", how, c, passed, err)
	}
	if _, err := OpenCheckpoint(output); !errors.Is(err, ErrCheckpoint) {
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
	if err := prune(atomicfile.OS, output, 1, 5); err != nil {
		t.Fatal(err)
	}
	names, err := checkpointNames(output)
	if diff := cmp.Diff([]string{stepName(5), stepName(8)}, names); err != nil || diff != "" {
		t.Errorf("left %v: %s", err, diff)
	}
}

// TestLatestIsFoundWithoutItsNote is the state of a run that was killed before
// it could write the note for the first time.
func TestLatestIsFoundWithoutItsNote(t *testing.T) {
	output := t.TempDir()
	mustSave(t, output, 1)
	if err := os.Remove(filepath.Join(output, checkpointsDir, latestFile)); err != nil {
		t.Fatal(err)
	}
	if c, err := OpenCheckpoint(output); err != nil || c.State.Step != 1 {
		t.Errorf("found %+v, %v", c, err)
	}
	if err := os.RemoveAll(filepath.Join(output, checkpointsDir, stepName(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(output); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("an output without checkpoints gives %v", err)
	}
}

// TestResumeCompletesTheLastSave has the state of a run that was killed at its
// end, when its last checkpoint had got its name but was not yet noted as the
// latest.
func TestResumeCompletesTheLastSave(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	cfg.Resume, cfg.Keep, cfg.SaveEvery = "auto", 1, Interval{Epochs: 1}
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cfg.Output, checkpointsDir)
	older, newest := stepName(10), stepName(15)
	if err := os.CopyFS(filepath.Join(root, older), os.DirFS(filepath.Join(root, newest))); err != nil {
		t.Fatal(err)
	}
	if err := noteLatest(atomicfile.OS, root, older); err != nil {
		t.Fatal(err)
	}

	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	if name, err := latest(cfg.Output); err != nil || name != newest {
		t.Errorf("the latest is %s (%v), want %s", name, err, newest)
	}
	names, err := checkpointNames(cfg.Output)
	if diff := cmp.Diff([]string{newest}, names); err != nil || diff != "" {
		t.Errorf("left %v: %s", err, diff)
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

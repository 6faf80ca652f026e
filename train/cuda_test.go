//go:build cuda

package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
	"github.com/seed-436d2970/pixpro/train/options"
)

// openCUDA opens the first card and closes it at the end of the test.
func openCUDA(t *testing.T, o cuda.Options) *cuda.Device {
	t.Helper()
	d, err := cuda.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestGoldenRunsOnCUDA(t *testing.T) {
	for _, name := range goldenRuns {
		t.Run(name, func(t *testing.T) {
			d := openCUDA(t, cuda.Options{Precision: device.FP32})
			replay(t, name, d)
			if err := d.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunFromShardsOnCUDA compares 20 steps from shards with the CPU's: in fp32
// within the tolerances that the golden runs have for their losses, in others
// within three times what their rounding cost on the software device.
func TestRunFromShardsOnCUDA(t *testing.T) {
	data := makeShards(t)
	configure := func() Options {
		cfg := tiny(data, t.TempDir())
		cfg.Epochs, cfg.BaseLR = 4, 1
		return cfg
	}
	onCPU := configure()
	if err := trainFor(t, onCPU, 0); err != nil {
		t.Fatal(err)
	}
	want, _ := outcome(t, onCPU.Output)
	for precision, tolerance := range map[device.Precision]float64{device.FP32: goldenLossTolerance(t), device.TF32: 1e-2, device.BF16: 6e-2} {
		d, err := cuda.Open(cuda.Options{Precision: precision})
		if err != nil && strings.Contains(err.Error(), "needs 8.0") {
			t.Log(err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		onCUDA := configure()
		if err := errors.Join(trainOn(t, d, onCUDA, 0, atomicfile.OS), d.Close()); err != nil {
			t.Fatal(err)
		}
		got, _ := outcome(t, onCUDA.Output)
		if len(want) != 20 || len(got) != 20 {
			t.Fatalf("%d and %d steps, want 20", len(want), len(got))
		}
		worst := 0.0
		for i := range want {
			worst = max(worst, math.Abs(got[i].Loss-want[i].Loss)/math.Abs(want[i].Loss))
		}
		t.Logf("%s: losses differ by up to %.2g", precision, worst)
		if worst > tolerance {
			t.Errorf("%s: losses differ by %.2g, more than %.2g", precision, worst, tolerance)
		}
	}
}

// TestRepeatedRunsOnCUDA: what a card computes has the same bits every time.
func TestRepeatedRunsOnCUDA(t *testing.T) {
	data := makeShards(t)
	for _, precision := range []device.Precision{device.FP32, device.TF32, device.BF16} {
		var first []Metrics
		var final map[string]checkpoint.Digest
		for i := range 2 {
			d, err := cuda.Open(cuda.Options{Precision: precision})
			if err != nil && strings.Contains(err.Error(), "needs 8.0") {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg := tiny(data, t.TempDir())
			cfg.Epochs, cfg.BaseLR = 2, 1
			if err := errors.Join(trainOn(t, d, cfg, 0, atomicfile.OS), d.Close()); err != nil {
				t.Fatal(err)
			}
			metrics, files := outcome(t, cfg.Output)
			if i == 0 {
				first, final = metrics, files
				continue
			}
			for k := range first {
				if metrics[k].Loss != first[k].Loss {
					t.Errorf("%s: step %d has loss %v, and %v when it is made again", precision, k+1, first[k].Loss, metrics[k].Loss)
				}
			}
			if diff := cmp.Diff(final, files); diff != "" {
				t.Errorf("%s: the same run ends with other parameters: %s", precision, diff)
			}
		}
	}
}

// goldenLossTolerance is the least of the tolerances that the golden runs have
// for the loss of a step.
func goldenLossTolerance(t *testing.T) float64 {
	t.Helper()
	least := math.Inf(1)
	for _, name := range goldenRuns {
		var r goldenRun
		golden.JSON(t, &r, "train", name+".json")
		least = min(least, slices.Min(r.Tolerance.Loss))
	}
	return least
}

// faultyRun makes a run whose n-th call of a function of the device, "" for any,
// fails, on a device that is closed afterwards, and tells which call it was.
func faultyRun(faults *cudatest.Faults, function string, n int, run func(d device.Device) error) (failed string, err error) {
	if function == "" {
		faults.FailAt(n)
	} else {
		faults.FailCall(function, n)
	}
	defer faults.FailAt(0)
	d, err := cuda.Open(cuda.Options{Precision: device.FP32})
	if err == nil {
		err = errors.Join(run(d), d.Close())
	}
	return faults.Failed(), err
}

// TestFailedCallsOnCUDA lets calls of a training run fail at all its
// stages. Each time there is an error, a sound checkpoint of the step before,
// nothing left on the card, and the resumed run ends as an unbroken one.
func TestFailedCallsOnCUDA(t *testing.T) {
	faults := cudatest.Open(t)
	faults.SetMemory(512 << 20) // the device takes a part of it at once, for each call anew
	defer faults.SetMemory(cudatest.Memory)
	data := makeShards(t)
	configure := func() Options {
		cfg := tiny(data, t.TempDir())
		cfg.Epochs, cfg.Resume, cfg.SaveEvery = 1, "auto", options.Interval{Steps: 1}
		return cfg
	}
	whole := configure()
	train := func(cfg Options) func(device.Device) error {
		return func(d device.Device) error { return trainOn(t, d, cfg, 0, atomicfile.OS) }
	}
	// The first run compiles kernels and chooses convolutions, and calls more.
	if _, err := faultyRun(faults, "", 0, train(configure())); err != nil {
		t.Fatal(err)
	}
	var calls map[string]int
	if _, err := faultyRun(faults, "", 0, func(d device.Device) error {
		err := train(whole)(d)
		calls = faults.Calls()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, want := outcome(t, whole.Output)

	// What a step calls fails in the last one, other functions when half of their
	// calls are made, and one in a stride of all calls does.
	type fault struct {
		function string // "": any
		call     int
		late     bool // when there is a checkpoint
	}
	inSteps := []string{
		"cuLaunchKernel", "cublasGemmStridedBatchedEx", "cudnnBackendExecute", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoH_v2",
		"cuEventRecord", "cuEventSynchronize", "cuStreamWaitEvent", "cuStreamSynchronize",
	}
	var list []fault
	total := 0
	for name, n := range calls {
		total += n
		if slices.Contains(inSteps, name) {
			list = append(list, fault{name, n - 1, true})
		} else if !testing.Short() {
			list = append(list, fault{name, (n + 1) / 2, false})
		}
	}
	stride := 1201
	if testing.Short() {
		stride = 4001
	}
	for n := 1; n < total; n += stride {
		list = append(list, fault{"", n, false})
	}
	functions, withCheckpoint := map[string]bool{}, 0
	for _, f := range list {
		n := f.call
		cfg := configure()
		live := faults.Live()
		failed, err := faultyRun(faults, f.function, n, train(cfg))
		if left := faults.Live() - live; left != 0 {
			t.Errorf("call %d, %s, failed: %d objects stay on the card", n, failed, left)
		}
		if failed == "" {
			t.Errorf("%+v did not fail, the run ended with %v", f, err)
			continue
		}
		// Memory and kernels have a second try, the cache is optional, and windows can be
		// gathered without cuDNN, which rounds otherwise.
		otherwise := err == nil && strings.HasPrefix(failed, "cudnn")
		if err == nil && !otherwise && !strings.HasPrefix(failed, "cuMemAlloc") && !strings.HasPrefix(failed, "cuModuleLoadData") {
			t.Errorf("call %d, %s, failed without an error", n, failed)
		}
		functions[failed] = true
		if err != nil && !strings.Contains(err.Error(), "cuda:0") {
			t.Errorf("call %d, %s, failed: the error does not name the card: %v", n, failed, err)
		}
		last, openErr := checkpoint.Newest(cfg.Output, func(err error) { t.Errorf("call %d, %s, failed: unsound: %v", n, failed, err) })
		if openErr != nil {
			t.Fatal(openErr)
		}
		if last == nil && f.late {
			t.Errorf("%+v failed, and there is no checkpoint: %v", f, err)
		}
		if last != nil {
			withCheckpoint++
			if m := regexp.MustCompile(`from the checkpoint of step (\d+)`).FindStringSubmatch(errorText(err)); m != nil && m[1] != strconv.FormatInt(last.State.Step, 10) {
				t.Errorf("call %d, %s, failed: step %d is saved, the error says %v", n, failed, last.State.Step, err)
			}
		}
		if _, err := faultyRun(faults, "", 0, train(cfg)); err != nil {
			t.Fatalf("call %d, %s, failed; resumed: %v", n, failed, err)
		}
		if _, got := outcome(t, cfg.Output); !cmp.Equal(got, want) && !otherwise {
			t.Errorf("call %d, %s, failed: the resumed run ended differently", n, failed)
		}
	}
	t.Logf("%d failures, %d with a checkpoint; functions %v", len(list), withCheckpoint, functions)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestOutOfMemoryOnCUDA shrinks the card until a batch does not
// fit, and checks that the one which the error names does.
func TestOutOfMemoryOnCUDA(t *testing.T) {
	faults := cudatest.Open(t)
	defer faults.SetMemory(cudatest.Memory)
	data := makeShards(t)
	cfg := tiny(data, t.TempDir())
	cfg.BatchSize, cfg.Size = 20, 64
	plan, err := MakePlan(cfg, 20)
	if err != nil {
		t.Fatal(err)
	}
	faults.SetMemory(plan.MemoryBytes * 2 / 3)
	live := faults.Live()
	train := func(cfg Options) error {
		_, err := faultyRun(faults, "", 0, func(d device.Device) error { return trainOn(t, d, cfg, 1, atomicfile.OS) })
		return err
	}
	err = train(cfg)
	m := regexp.MustCompile(`a batch of 20 does not fit, one of (\d+) would`).FindStringSubmatch(errorText(err))
	if m == nil {
		t.Fatalf("the error is %v", err)
	}
	if left := faults.Live() - live; left != 0 {
		t.Errorf("%d objects stay on the card", left)
	}
	if _, err := os.Stat(filepath.Join(cfg.Output, checkpoint.Folder)); err == nil {
		t.Error("a step that did not fit left a checkpoint")
	}
	cfg.BatchSize, _ = strconv.Atoi(m[1])
	cfg.Output = t.TempDir()
	if err := train(cfg); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the batch of %d that would fit: %v", cfg.BatchSize, err)
	}
	t.Log(m[0])
}

//go:build cuda

package train

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/train/device/cuda"
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
			d := openCUDA(t, cuda.Options{Precision: cuda.FP32})
			replay(t, name, d)
			if err := d.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunFromShardsOnCUDA compares 20 steps from shards with the CPU's, within
// the tolerances that the golden runs have for their losses.
func TestRunFromShardsOnCUDA(t *testing.T) {
	data := makeShards(t)
	configure := func() Config {
		cfg := tiny(data, t.TempDir())
		cfg.Epochs, cfg.BaseLR = 4, 1
		return cfg
	}
	onCPU, onCUDA := configure(), configure()
	if err := trainFor(t, onCPU, 0); err != nil {
		t.Fatal(err)
	}
	if err := trainOn(t, openCUDA(t, cuda.Options{Precision: cuda.FP32}), onCUDA, 0, atomicfile.OS); err != nil {
		t.Fatal(err)
	}
	want, _ := outcome(t, onCPU.Output)
	got, _ := outcome(t, onCUDA.Output)
	if len(want) != 20 || len(got) != 20 {
		t.Fatalf("%d and %d steps, want 20", len(want), len(got))
	}
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(got[i].Loss-want[i].Loss)/math.Abs(want[i].Loss))
	}
	t.Logf("losses differ by up to %.2g", worst)
	if worst > goldenLossTolerance(t) {
		t.Errorf("losses differ by %.2g, more than the golden runs' tolerance %.2g", worst, goldenLossTolerance(t))
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

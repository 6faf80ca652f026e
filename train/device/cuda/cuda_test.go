//go:build cuda

package cuda

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
	"github.com/seed-436d2970/pixpro/train/device/devicetest"
)

// open opens the first card.
func open(t testing.TB, o Options) *Device {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevice(t *testing.T) {
	for name, o := range map[string]Options{
		"arena":                  {Precision: device.FP32},
		"separate allocations":   {Precision: device.FP32, Separate: true},
		"no cuDNN":               {Precision: device.FP32, noConvolver: true},
		"convolutions in pieces": {Precision: device.FP32, workspace: 2 << 10, noConvolver: true},
	} {
		t.Run(name, func(t *testing.T) {
			devicetest.Run(t, func() device.Device { return open(t, o) })
		})
	}
}

// TestLowerPrecisions allows what rounding to 8 bits (bf16) and to 11 bits
// (tf32, of the factors of matrix products) costs.
func TestLowerPrecisions(t *testing.T) {
	for name, c := range map[string]struct {
		Options
		tolerance   float64
		significant int
	}{
		"bf16":               {Options{Precision: device.BF16, Separate: true}, 1e-2, 8},
		"bf16 without cuDNN": {Options{Precision: device.BF16, noConvolver: true}, 1e-2, 8},
		"bf16 in pieces":     {Options{Precision: device.BF16, workspace: 1 << 10, noConvolver: true}, 1e-2, 8},
		"tf32":               {Options{Precision: device.TF32}, 2e-3, 11},
		"tf32 without cuDNN": {Options{Precision: device.TF32, noConvolver: true}, 2e-3, 11},
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := Open(c.Options); err != nil && strings.Contains(err.Error(), "needs 8.0") {
				t.Skipf("this card lacks the precision: %v", err)
			} else if err != nil {
				t.Fatal(err)
			} else if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			devicetest.RunWithin(t, c.tolerance, c.significant, func() device.Device { return open(t, c.Options) })
		})
	}
}

// TestLargeUploadArrives has a kernel read what was just uploaded without
// pinned memory.
func TestLargeUploadArrives(t *testing.T) {
	d := open(t, Options{Precision: device.FP32})
	values := make([]float32, 2*small)
	for i := range values {
		values[i] = float32(i)
	}
	sum, x := d.Alloc(len(values)), d.Alloc(len(values))
	d.Zero(sum)
	d.Upload(x, values)
	d.Add(sum, x)
	got := make([]float32, len(values))
	d.Download(got, sum)
	for i := range values {
		if got[i] != values[i] {
			t.Fatalf("value %d is %g, want %g", i, got[i], values[i])
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestArenaKeepsItsLimit fills the card with small tensors: memory is left for
// what is not a tensor.
func TestArenaKeepsItsLimit(t *testing.T) {
	faults := cudatest.Open(t)
	faults.SetMemory(1 << 30)
	defer faults.SetMemory(cudatest.Memory)
	d := open(t, Options{Precision: device.FP32})
	tensors := int64(0)
	for ; d.Err() == nil; tensors++ {
		d.Alloc(1 << 20)
	}
	var full *device.OutOfMemoryError
	if err := d.Err(); !errors.As(err, &full) {
		t.Fatalf("the error is %v", err)
	}
	if bytes := (tensors - 1) << 22; bytes < full.Available || bytes > 1<<30-1<<27 {
		t.Errorf("%d MiB of tensors fitted, %d were said to be available, of 1024", bytes>>20, full.Available>>20)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

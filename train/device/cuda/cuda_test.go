//go:build cuda

package cuda

import (
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/devicetest"
)

// open opens the first card with a cache of compiled kernels that tests share.
func open(t testing.TB, o Options) *Device {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevice(t *testing.T) {
	for _, o := range []Options{{Precision: FP32}, {Precision: FP32, Separate: true}} {
		name := "arena"
		if o.Separate {
			name = "separate allocations"
		}
		t.Run(name, func(t *testing.T) {
			devicetest.Run(t, func() device.Device { return open(t, o) })
		})
	}
}

// TestLowerPrecisions allows what rounding to 8 bits (bf16) and to 11 bits
// (tf32, of the factors of matrix products) costs.
func TestLowerPrecisions(t *testing.T) {
	t.Run("bf16", func(t *testing.T) {
		devicetest.RunWithin(t, 1e-2, 8, func() device.Device { return open(t, Options{Precision: BF16, Separate: true}) })
	})
	t.Run("tf32", func(t *testing.T) {
		devicetest.RunWithin(t, 2e-3, 11, func() device.Device { return open(t, Options{Precision: TF32}) })
	})
}

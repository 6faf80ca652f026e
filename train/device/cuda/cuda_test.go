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

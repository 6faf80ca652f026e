package cpu_test

import (
	"fmt"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/device/devicetest"
)

// threadCounts are 1, 2, and more than there may be cores.
func threadCounts() []int {
	if testing.Short() {
		return []int{2}
	}
	return []int{1, 2, 5}
}

func TestDevice(t *testing.T) {
	for _, threads := range threadCounts() {
		t.Run(fmt.Sprintf("%d threads", threads), func(t *testing.T) {
			devicetest.Run(t, func() device.Device { return cpu.New(threads) })
		})
	}
}

// TestBF16 has inputs that bfloat16 holds, so that only results are rounded.
func TestBF16(t *testing.T) {
	for _, threads := range threadCounts() {
		t.Run(fmt.Sprintf("%d threads", threads), func(t *testing.T) {
			devicetest.RunWithin(t, 1e-2, 8, func() device.Device { return cpu.NewBF16(threads) })
		})
	}
}

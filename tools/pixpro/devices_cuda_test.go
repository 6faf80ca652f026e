//go:build cuda

package main

import (
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
)

func TestDevicesCUDA(t *testing.T) {
	var d devicesInfo
	if err := listCards(&d); err != nil {
		t.Fatal(err)
	}
	if len(d.Cards) == 0 || d.Driver == "" || d.Toolkit == "" {
		t.Fatalf("no card, driver or toolkit: %+v", d)
	}
	for i, c := range d.Cards {
		if _, ordinal, err := device.Lookup(c.Device); err != nil || ordinal != i {
			t.Errorf("card %d is %s: number %d, %v", i, c.Device, ordinal, err)
		}
		if c.Name == "" || c.MemoryBytes < 1<<30 || c.Multiprocessors < 1 || len(c.ComputeCapability) < 3 {
			t.Errorf("card %d: %+v", i, c)
		}
		if !strings.Contains(d.text(), c.Name) {
			t.Errorf("%s is not in\n%s", c.Name, d.text())
		}
	}
}

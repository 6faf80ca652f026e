//go:build cuda

package main

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda"
)

func init() {
	openCUDA = func(o cuda.Options) (device.Device, error) {
		d, err := cuda.Open(o)
		if err != nil {
			return nil, err // not a nil *cuda.Device in an interface
		}
		return d, nil
	}
}

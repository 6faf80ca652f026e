package cpu

import "github.com/seed-436d2970/pixpro/train/device"

func init() {
	device.Register("cpu", device.Driver{
		Precisions: []device.Precision{device.FP32},
		Open:       func(c device.Config) (device.Device, error) { return New(c.Threads), nil },
	})
}

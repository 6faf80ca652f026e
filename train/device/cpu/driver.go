package cpu

import "github.com/seed-436d2970/pixpro/train/device"

func init() {
	device.Register("cpu", device.Driver{
		Precisions: []device.Precision{device.FP32, device.BF16},
		Open: func(c device.Config) (device.Device, error) {
			if c.Precision == device.BF16 {
				return NewBF16(c.Threads), nil
			}
			return New(c.Threads), nil
		},
	})
}

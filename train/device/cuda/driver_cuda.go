//go:build cuda

package cuda

import "github.com/seed-436d2970/pixpro/train/device"

func init() {
	openDriver = func(c device.Config) (device.Device, error) {
		d, err := Open(Options{Ordinal: c.Ordinal, Precision: c.Precision})
		if err != nil {
			return nil, err // not a nil *Device in an interface
		}
		return d, nil
	}
}

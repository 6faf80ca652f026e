package cuda

import (
	"errors"

	"github.com/seed-436d2970/pixpro/train/device"
)

// ErrNotBuilt is the error of opening a card in a program that was built
// without the tag cuda.
var ErrNotBuilt = errors.New("this program was built without CUDA and computes on the processor only")

// openDriver opens a card; the build tag decides how.
var openDriver = func(device.Config) (device.Device, error) { return nil, ErrNotBuilt }

func init() {
	device.Register("cuda", device.Driver{
		Precisions: device.Precisions(), Several: true,
		Open: func(c device.Config) (device.Device, error) { return openDriver(c) },
	})
}

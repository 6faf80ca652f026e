package train

import (
	"fmt"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/objective"
	"github.com/seed-436d2970/pixpro/train/optim"
)

// BenchmarkStep times whole training steps.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		arch, stem  string
		width       float64
		size, pairs int
	}{
		{"resnet18", model.StemImageNet, 1, 96, 16},
		{"resnet18", model.StemNoPool, 0.5, 96, 16},
	} {
		b.Run(fmt.Sprintf("%s,%s,%g/%dpx", c.arch, c.stem, c.width, c.size), func(b *testing.B) {
			encoder, err := model.Lookup(c.arch, c.stem, c.width)
			if err != nil {
				b.Fatal(err)
			}
			d := cpu.New(0)
			m, err := model.New(d, model.Config{
				Encoder: encoder, Method: model.PixPro, Hidden: 4096, Dim: 256,
				Propagation: device.Propagation{Gamma: 2}, TransformLayers: 1,
			})
			if err != nil {
				b.Fatal(err)
			}
			e := engine{d, m, objective.Config{Method: model.PixPro, PositiveRatio: 0.7}, optim.NewLARS(d, m.Trained(), 1e-5)}
			v := views{pairs: c.pairs, size: c.size}
			for i := range v.pixels {
				v.pixels[i] = make([]uint8, c.pairs*3*c.size*c.size)
				for p := range v.pixels[i] {
					v.pixels[i][p] = uint8(p * 7919 >> 3)
				}
				for range c.pairs {
					v.coords[i] = append(v.coords[i], 0.2*float32(i), 0, 0.8, 0.8)
				}
			}
			for b.Loop() {
				e.gradients(v, 0.99)
				e.update(0.1)
			}
			b.ReportMetric(float64(c.pairs*b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

package cpu

import (
	"fmt"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
)

func BenchmarkConvolutions(b *testing.B) {
	d := New(1)
	for _, c := range []struct{ side, in, out, kernel, stride int }{
		{56, 64, 64, 1, 1}, {56, 64, 256, 1, 1}, {14, 256, 1024, 1, 1}, {14, 1024, 256, 1, 1}, {56, 64, 64, 3, 1}, {14, 256, 256, 3, 1}, {7, 512, 512, 3, 1}, {28, 256, 256, 3, 2}, {224, 3, 64, 7, 2},
	} {
		conv := device.Convolution{Kernel: c.kernel, Stride: c.stride, Padding: c.kernel / 2}.Explicit()
		n := 8
		o := conv.Output(c.side)
		x, y, w := d.Alloc(n, c.side, c.side, c.in), d.Alloc(n, o, o, c.out), d.Alloc(c.out, c.kernel, c.kernel, c.in)
		flops := 2 * float64(n*o*o) * float64(c.out*c.in*c.kernel*c.kernel)
		name := fmt.Sprintf("%d,%d>%d,%dx%d", c.side, c.in, c.out, c.kernel, c.kernel)
		for kind, run := range map[string]func(){
			"forward": func() { d.Convolve(y, x, w, device.Tensor{}, conv) },
			"data":    func() { d.ConvolveBackwardData(x, y, w, conv, false) },
			"weights": func() { d.ConvolveBackwardWeights(w, device.Tensor{}, y, x, conv) },
		} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					run()
				}
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

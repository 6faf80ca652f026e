package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// MaxPool implements device.Device.
func (d *Device) MaxPool(y, x device.Tensor, c device.Convolution) {
	if isHalf(x) {
		d.converted(func(v *conversion) { d.MaxPool(v.out(y), v.in(x), c) })
		return
	}
	g := newWindow(x, y, c)
	xs, ys := floats(x), floats(y)
	ch := g.Channels
	d.spans(y.Rows(), func(from, to int) {
		for p := from; p < to; p++ {
			out := ys[p*ch:][:ch]
			for i := range out {
				out[i] = float32(math.Inf(-1))
			}
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					maxRow(out, xs[in:][:ch])
				}
			})
		}
	})
}

// MaxPoolBackward implements device.Device. The place of a maximum is found
// again instead of being stored.
func (d *Device) MaxPoolBackward(dx, dy, x, y device.Tensor, c device.Convolution) {
	if isHalf(x) {
		d.converted(func(v *conversion) { d.MaxPoolBackward(v.out(dx), v.in(dy), v.in(x), v.in(y), c) })
		return
	}
	g := newWindow(dx, dy, c)
	dxs, dys, xs, ys := floats(dx), floats(dy), floats(x), floats(y)
	ch, perImage := g.Channels, g.OutHeight*g.OutWidth
	parallel.ForWorker(g.Images, d.threads, func(thread, image int) {
		clear(dxs[image*g.Height*g.Width*ch:][:g.Height*g.Width*ch])
		left := d.threadScratch(thread, ch)
		for p := image * perImage; p < (image+1)*perImage; p++ {
			copy(left, dys[p*ch:][:ch]) // what has found no place yet
			top := ys[p*ch:][:ch]
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					maxBackRow(dxs[in:][:ch], left, xs[in:][:ch], top)
				}
			})
		}
	})
}

// AveragePool implements device.Device.
func (d *Device) AveragePool(y, x device.Tensor, c device.Convolution) {
	if isHalf(x) {
		d.converted(func(v *conversion) { d.AveragePool(v.out(y), v.in(x), c) })
		return
	}
	g := newWindow(x, y, c)
	xs, ys := floats(x), floats(y)
	ch, share := g.Channels, 1/float32(c.Kernel*c.Kernel)
	d.spans(y.Rows(), func(from, to int) {
		for p := from; p < to; p++ {
			out := ys[p*ch:][:ch]
			clear(out)
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					addTo(out, xs[in:][:ch])
				}
			})
			for i := range out {
				out[i] *= share
			}
		}
	})
}

// AveragePoolBackward implements device.Device.
func (d *Device) AveragePoolBackward(dx, dy device.Tensor, c device.Convolution) {
	if isHalf(dx) {
		d.converted(func(v *conversion) { d.AveragePoolBackward(v.out(dx), v.in(dy), c) })
		return
	}
	g := newWindow(dx, dy, c)
	dxs, dys := floats(dx), floats(dy)
	ch, perImage, share := g.Channels, g.OutHeight*g.OutWidth, 1/float32(c.Kernel*c.Kernel)
	parallel.ForWorker(g.Images, d.threads, func(thread, image int) {
		clear(dxs[image*g.Height*g.Width*ch:][:g.Height*g.Width*ch])
		grad := d.threadScratch(thread, ch)
		for p := image * perImage; p < (image+1)*perImage; p++ {
			for i, v := range dys[p*ch:][:ch] {
				grad[i] = v * share
			}
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					addTo(dxs[in:][:ch], grad)
				}
			})
		}
	})
}

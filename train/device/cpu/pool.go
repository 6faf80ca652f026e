package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// MaxPool implements device.Device.
func (d *Device) MaxPool(y, x device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	xs, ys := valuesOf(x), valuesOf(y)
	ch := g.Channels
	d.blocks(y.Rows(), ch, func(thread, from, to int) {
		buffer := d.threadScratch(thread, 2*ch)
		for p := from; p < to; p++ {
			out := ys.room(buffer[:ch], p*ch, (p+1)*ch)
			for i := range out {
				out[i] = float32(math.Inf(-1))
			}
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					maxRow(out, xs.load(buffer[ch:], in, in+ch))
				}
			})
			ys.store(out, p*ch)
		}
	})
}

// MaxPoolBackward implements device.Device. The place of a maximum is found
// again instead of being stored.
func (d *Device) MaxPoolBackward(dx, dy, x, y device.Tensor, c device.Convolution) {
	g := newWindow(dx, dy, c)
	dxs, dys, xs, ys := valuesOf(dx), valuesOf(dy), valuesOf(x), valuesOf(y)
	ch, perImage := g.Channels, g.OutHeight*g.OutWidth
	size := g.Height * g.Width * ch
	parallel.ForWorker(g.Images, d.threads, func(thread, image int) {
		buffer := d.threadScratch(thread, 4*ch+size)
		grads, left := buffer[:ch], buffer[ch:2*ch]
		out := dxs.room(buffer[4*ch:], image*size, (image+1)*size)
		clear(out)
		for p := image * perImage; p < (image+1)*perImage; p++ {
			copy(left, dys.load(grads, p*ch, (p+1)*ch)) // what has found no place yet
			top := ys.load(buffer[2*ch:3*ch], p*ch, (p+1)*ch)
			g.row(p, func(in, _, length int) {
				for ; length > 0; in, length = in+ch, length-ch {
					maxBackRow(out[in-image*size:][:ch], left, xs.load(buffer[3*ch:4*ch], in, in+ch), top)
				}
			})
		}
		dxs.store(out, image*size)
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

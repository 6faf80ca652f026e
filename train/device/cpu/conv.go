package cpu

import (
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// tileFloats is how many floats of gathered windows one matrix product takes:
// 2 MiB, so that a tile and the packed weights share the outer caches and a
// product is still tall enough to pay for packing the weights.
const tileFloats = 1 << 19

// window walks over the receptive fields of a convolution's outputs.
type window struct{ device.Window }

func newWindow(x, y device.Tensor, c device.Convolution) window {
	return window{device.NewWindow(x, y, c)}
}

// tileRows is how many receptive fields make a tile.
func (g *window) tileRows() int {
	return min(max(tileFloats/g.Size(), 32), 1024)
}

// row calls span for the parts of output pixel p's receptive field that lie in
// the input: length floats from input place in correspond to those from place
// at on of the field. The field is Groups x K x K x C/Groups. p counts over
// all images.
func (g *window) row(p int, span func(in, at, length int)) {
	image, p := p/(g.OutHeight*g.OutWidth), p%(g.OutHeight*g.OutWidth)
	top, left := p/g.OutWidth*g.Stride-g.Padding, p%g.OutWidth*g.Stride-g.Padding
	for kh := range g.Kernel {
		y := top + kh*g.Dilation
		if y < 0 || y >= g.Height {
			continue
		}
		line := (image*g.Height + y) * g.Width
		if g.Dilation == 1 && g.Groups == 1 { // pixels of a line lie side by side
			first, last := max(0, -left), min(g.Kernel, g.Width-left)
			if first < last {
				span((line+left+first)*g.Channels, (kh*g.Kernel+first)*g.Channels, (last-first)*g.Channels)
			}
			continue
		}
		channels := g.Channels / g.Groups
		for kw := range g.Kernel {
			x := left + kw*g.Dilation
			if x < 0 || x >= g.Width {
				continue
			}
			for group := range g.Groups {
				span((line+x)*g.Channels+group*channels, ((group*g.Kernel+kh)*g.Kernel+kw)*channels, channels)
			}
		}
	}
}

// gather copies the receptive fields of output pixels from, ..., to-1 into
// tile, one a row; what lies outside of the input is 0.
func (g *window) gather(tile, x []float32, from, to int) {
	size := g.Size()
	for p := from; p < to; p++ {
		field := tile[(p-from)*size:][:size]
		if g.Padding > 0 {
			clear(field)
		}
		g.row(p, func(in, at, length int) {
			copy(field[at:at+length], x[in:in+length])
		})
	}
}

// scatter adds tile's rows, laid out as by gather, to the input places.
func (g *window) scatter(dx, tile []float32, from, to int) {
	size := g.Size()
	for p := from; p < to; p++ {
		field := tile[(p-from)*size:][:size]
		g.row(p, func(in, at, length int) {
			addTo(dx[in:in+length], field[at:at+length])
		})
	}
}

// group is where a group of channels lies: its outputs from column out on of a
// row of y, its fields from column field on of a tile's row, its weights from
// place weight on.
func (g *window) group(i int) (out, field, weight int) {
	outs, fields := g.Outs/g.Groups, g.Size()/g.Groups
	return i * outs, i * fields, i * outs * fields
}

// Convolve implements device.Device: y = windows(x) w'.
func (d *Device) Convolve(y, x, w, bias device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	g.CheckWeights(w)
	xs, ys, ws, bs := floats(x), floats(y), floats(w), floats(bias)
	rows, size := y.Rows(), g.Size()
	outs, depth := g.Outs/g.Groups, size/g.Groups
	tile := d.balance(g.tileRows(), rows)
	parallel.ForWorker((rows+tile-1)/tile, d.threads, func(thread, i int) {
		from, to := i*tile, min(rows, (i+1)*tile)
		out := ys[from*g.Outs : to*g.Outs]
		for r := 0; bs != nil && r < len(out); r += g.Outs {
			copy(out[r:], bs)
		}
		var fields []float32
		if g.Direct() {
			fields = xs[from*size : to*size]
		} else {
			fields = d.threadScratch(thread, (to-from)*size)
			g.gather(fields, xs, from, to)
		}
		for group := range g.Groups {
			o, f, w := g.group(group)
			gemm.Mul(false, true, to-from, outs, depth, fields[f:], size, ws[w:], depth, bs != nil, out[o:], g.Outs)
		}
	})
}

// balance lowers the rows of a tile so that all threads get as many tiles.
func (d *Device) balance(tile, rows int) int {
	rounds := (rows + tile*d.threads - 1) / (tile * d.threads)
	parts := max(1, rounds*d.threads)
	return max(1, (rows+parts-1)/parts)
}

// ConvolveBackwardData implements device.Device: windows(dx) += dy w. Images
// are split over threads, since windows of one image overlap.
func (d *Device) ConvolveBackwardData(dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	g := newWindow(dx, dy, c)
	g.CheckWeights(w)
	dxs, dys, ws := floats(dx), floats(dy), floats(w)
	size := g.Size()
	outs, depth := g.Outs/g.Groups, size/g.Groups
	if g.Direct() {
		rows := dy.Rows()
		tile := d.balance(g.tileRows(), rows)
		parallel.For((rows+tile-1)/tile, d.threads, func(i int) {
			from, to := i*tile, min(rows, (i+1)*tile)
			gemm.Mul(false, false, to-from, size, g.Outs, dys[from*g.Outs:to*g.Outs], g.Outs, ws, size, accumulate, dxs[from*size:to*size], size)
		})
		return
	}
	perImage := g.OutHeight * g.OutWidth
	tile := min(g.tileRows(), perImage)
	parallel.ForWorker(g.Images, d.threads, func(thread, image int) {
		if !accumulate {
			clear(dxs[image*g.Height*g.Width*g.Channels:][:g.Height*g.Width*g.Channels])
		}
		for from := image * perImage; from < (image+1)*perImage; from += tile {
			to := min((image+1)*perImage, from+tile)
			fields := d.threadScratch(thread, tile*size)[:(to-from)*size]
			for group := range g.Groups {
				o, f, w := g.group(group)
				gemm.Mul(false, false, to-from, depth, outs, dys[from*g.Outs+o:to*g.Outs], g.Outs, ws[w:], depth, false, fields[f:], size)
			}
			g.scatter(dxs, fields, from, to)
		}
	})
}

// ConvolveBackwardWeights implements device.Device: dw += dy' windows(x). Each
// thread sums over a fixed part of the rows, then the parts are added in order.
func (d *Device) ConvolveBackwardWeights(dw, dbias, dy, x device.Tensor, c device.Convolution) {
	g := newWindow(x, dy, c)
	g.CheckWeights(dw)
	xs, dys, dws := floats(x), floats(dy), floats(dw)
	rows, size := dy.Rows(), g.Size()
	outs, depth := g.Outs/g.Groups, size/g.Groups
	tile := min(g.tileRows(), rows)
	parts := max(1, min(d.threads, rows/32))
	partial := make([]device.Tensor, parts)
	for i := 1; i < parts; i++ {
		partial[i] = d.Alloc(dw.Len())
	}
	parallel.ForWorker(parts, d.threads, func(thread, part int) {
		sum, add := dws, true
		if part > 0 {
			sum, add = floats(partial[part]), false
		}
		last := (part + 1) * rows / parts
		for from := part * rows / parts; from < last; from += tile {
			to := min(last, from+tile)
			var fields []float32
			if g.Direct() {
				fields = xs[from*size : to*size]
			} else {
				fields = d.threadScratch(thread, tile*size)[:(to-from)*size]
				g.gather(fields, xs, from, to)
			}
			for group := range g.Groups {
				o, f, w := g.group(group)
				gemm.Mul(true, false, outs, depth, to-from, dys[from*g.Outs+o:to*g.Outs], g.Outs, fields[f:], size, add, sum[w:], depth)
			}
			add = true
		}
	})
	for i := 1; i < parts; i++ {
		d.Add(dw, partial[i])
		d.Free(partial[i])
	}
	if dbias.Exists() {
		d.addColumnSums(floats(dbias), dys, rows, g.Outs)
	}
}

package cpu

import (
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// window walks over the receptive fields of a convolution's outputs.
type window struct{ device.Window }

func newWindow(x, y device.Tensor, c device.Convolution) window {
	return window{device.NewWindow(x, y, c)}
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

// A convolution is a matrix product of its input's windows and its weights. The
// windows are not gathered: the product's kernel takes pointers to the pixels of as
// many windows as it has rows, one set for each tap of the window, and reads the
// channels from where they lie (Dukhan, "The Indirect Convolution Algorithm", 2019).
// Taps outside of the map point to zeros. The gradient of the input is such a
// product as well, of the output's gradient and the weights turned around.

// tap is a place of a window: the pixel that it reads for the result at grid place
// (0, 0), and the place of its weights, channels x outs, among a convolution's.
type tap struct{ y, x, weights int }

// sweep is a product over a grid of pixels of a result, each from the same taps.
type sweep struct {
	images                           int
	rows, columns                    int // of the grid, in each image
	top, left, step                  int // of the grid in the result
	outHeight, outWidth, outChannels int
	height, width, channels          int // of what is read
	stride                           int // pixels that are read apart for a step of the grid
	taps                             []tap
	depth, outs                      int // channels that one group reads, and makes
	depthStride, outStride           int // of weights
	groups                           int
	halves                           []uint16 // what is read, if it has no whole pairs
}

// blockRows is how many results a goroutine makes at a time: few enough that what they
// read stays in the second-level cache while it meets all weights.
func blockRows(k *gemm.Kernels) int { return (96 + k.MR - 1) / k.MR * k.MR }

// forward is the sweep of a convolution.
func (g *window) forward() sweep {
	s := sweep{
		images: g.Images, rows: g.OutHeight, columns: g.OutWidth, step: 1,
		outHeight: g.OutHeight, outWidth: g.OutWidth, outChannels: g.Outs,
		height: g.Height, width: g.Width, channels: g.Channels, stride: g.Stride,
		depth: g.Channels / g.Groups, outs: g.Outs / g.Groups, groups: g.Groups,
	}
	s.depthStride, s.outStride = 1, g.Kernel*g.Kernel*s.depth
	for kh := range g.Kernel {
		for kw := range g.Kernel {
			s.taps = append(s.taps, tap{kh*g.Dilation - g.Padding, kw*g.Dilation - g.Padding, (kh*g.Kernel + kw) * s.depth})
		}
	}
	return s
}

// backward are the sweeps of the gradient of a convolution's input: one for each of
// the places that a stride leaves between two windows.
func (g *window) backward() []sweep {
	var list []sweep
	for top := range g.Stride {
		for left := range g.Stride {
			s := sweep{
				images: g.Images, rows: (g.Height - top + g.Stride - 1) / g.Stride, columns: (g.Width - left + g.Stride - 1) / g.Stride,
				top: top, left: left, step: g.Stride,
				outHeight: g.Height, outWidth: g.Width, outChannels: g.Channels,
				height: g.OutHeight, width: g.OutWidth, channels: g.Outs, stride: 1,
				depth: g.Outs / g.Groups, outs: g.Channels / g.Groups, groups: g.Groups,
			}
			s.depthStride, s.outStride = g.Kernel*g.Kernel*s.outs, 1
			for kh := range g.Kernel {
				for kw := range g.Kernel {
					y, x := top+g.Padding-kh*g.Dilation, left+g.Padding-kw*g.Dilation
					if y%g.Stride == 0 && x%g.Stride == 0 {
						s.taps = append(s.taps, tap{y / g.Stride, x / g.Stride, (kh*g.Kernel + kw) * s.outs})
					}
				}
			}
			list = append(list, s)
		}
	}
	return list
}

// pixels is how many pixels of the result the sweep makes.
func (s *sweep) pixels() int { return s.images * s.rows * s.columns }

// contiguous says that the sweep's results are all of the result, in order.
func (s *sweep) contiguous() bool { return s.step == 1 }

// place is the pixel of the result at place p of the grids.
func (s *sweep) place(p int) int {
	if s.contiguous() {
		return p
	}
	image, p := p/(s.rows*s.columns), p%(s.rows*s.columns)
	y, x := p/s.columns*s.step+s.top, p%s.columns*s.step+s.left
	return (image*s.outHeight+y)*s.outWidth + x
}

// panels is how many panels of columns a group's weights are packed in.
func (s *sweep) panels(k *gemm.Kernels) int { return (s.outs + k.NR - 1) / k.NR }

// packer packs a tap's weights of some columns of a group, depth x NR.
type packer func(thread int, panel []float32, group, first, columns int, t tap)

// plain packs weights as they are.
func (s *sweep) plain(k *gemm.Kernels, weights []float32) packer {
	perGroup := len(weights) / s.groups
	return func(_ int, panel []float32, group, first, columns int, t tap) {
		gemm.Pack(panel, weights[group*perGroup+t.weights+first*s.outStride:], s.depth, columns, k.NR, s.depthStride, s.outStride)
	}
}

// pack packs the weights of all groups, a panel after the other, each taps x depth x
// NR.
func (d *Device) pack(s *sweep, k *gemm.Kernels, pack packer) []float32 {
	panels, size := s.panels(k), len(s.taps)*s.depth*k.NR
	packed := d.packedWeights(s.groups * panels * size)
	parallel.ForWorker(s.groups*panels, d.threads, func(thread, i int) {
		group, first := i/panels, i%panels*k.NR
		for t, tap := range s.taps {
			pack(thread, packed[i*size+t*s.depth*k.NR:][:s.depth*k.NR], group, first, min(k.NR, s.outs-first), tap)
		}
	})
	return packed
}

// point writes the pointers to what the taps of grid places from, ..., to-1 read, in
// tiles: taps x MR pointers each. Rows of a tile that there are not point to zeros. Pairs
// of bfloat16 may begin at any value.
func point[T float32 | uint16](s *sweep, pointers []*float32, x []T, zeros *float32, from, to, mr int) {
	taps := len(s.taps)
	image, rest := from/(s.rows*s.columns), from%(s.rows*s.columns)
	row, column := rest/s.columns, rest%s.columns
	for p := 0; p < (to-from+mr-1)/mr*mr; p++ {
		at := pointers[p/mr*taps*mr+p%mr:]
		if from+p >= to {
			for t := range taps {
				at[t*mr] = zeros
			}
			continue
		}
		for t, tap := range s.taps {
			y, c := row*s.stride+tap.y, column*s.stride+tap.x
			if uint(y) < uint(s.height) && uint(c) < uint(s.width) {
				at[t*mr] = (*float32)(unsafe.Pointer(&x[((image*s.height+y)*s.width+c)*s.channels]))
			} else {
				at[t*mr] = zeros
			}
		}
		if column++; column == s.columns {
			column = 0
			if row++; row == s.rows {
				row, image = 0, image+1
			}
		}
	}
}

// sweep makes a sweep's float32 results, or adds them to what is there. bias may be nil.
func (d *Device) sweep(s *sweep, y, x, weights, bias []float32, accumulate bool) {
	k := gemm.Float32()
	d.sweepBy(k, s, values{floats: y}, x, s.plain(k, weights), bias, accumulate)
}

// sweepBy is sweep by kernels, to results of any kind.
func (d *Device) sweepBy(k *gemm.Kernels, s *sweep, y values, x []float32, weights packer, bias []float32, accumulate bool) {
	pixels := s.pixels()
	if pixels == 0 {
		return
	}
	packed := d.pack(s, k, weights)
	zeros := d.zeroRow(s.depth)
	panels := s.panels(k)
	blockRows := blockRows(k)
	blocks := (pixels + blockRows - 1) / blockRows
	parts := min(panels, (items+blocks*s.groups-1)/(blocks*s.groups)) // of the columns
	direct := s.contiguous() && y.halves == nil
	parallel.ForWorker(blocks*s.groups*parts, d.threads, func(thread, i int) {
		block, group, part := i/(s.groups*parts), i/parts%s.groups, i%parts
		from := block * blockRows
		to := min(pixels, from+blockRows)
		first, last := part*panels/parts, (part+1)*panels/parts
		column := group*s.outs + first*k.NR
		columns := min(s.outs-first*k.NR, (last-first)*k.NR)
		out, stride, add := []float32(nil), (last-first)*k.NR, false
		var buffer []float32
		if direct {
			out, stride, add = y.floats[from*s.outChannels+column:], s.outChannels, accumulate
		} else {
			scratch := d.threadScratch(thread, 2*blockRows*stride)
			out, buffer = scratch[:blockRows*stride], scratch[blockRows*stride:]
		}
		if bias != nil {
			for r := range to - from {
				copy(out[r*stride:], bias[column:column+columns])
			}
			add = true
		}
		d.block(k, s, thread, from, to, out, stride, x[min(group*s.depth, len(x)):], packed[(group*panels+first)*len(s.taps)*s.depth*k.NR:], zeros, columns, add)
		if !direct && s.contiguous() && columns == s.outChannels && columns == stride { // all in one
			y.put(out[:(to-from)*stride], from*stride, accumulate, buffer)
			return
		}
		for p := from; p < to && !direct; p++ {
			y.put(out[(p-from)*stride:][:columns], s.place(p)*s.outChannels+column, accumulate, buffer)
		}
	})
}

// block makes columns of the results of grid places from, ..., to-1.
func (d *Device) block(k *gemm.Kernels, s *sweep, thread, from, to int, out []float32, stride int, x, weights []float32, zeros *float32, columns int, add bool) {
	taps, rows := len(s.taps), to-from
	size := taps * s.depth * k.NR // of a panel
	product := func(pointers []*float32, firstTap, taps int, add bool) {
		for c := 0; c < columns; c += k.NR {
			w := weights[c/k.NR*size+firstTap*s.depth*k.NR:]
			for r := 0; r < rows; r += k.MR {
				k.Rows(pointers[r*taps:], taps, s.depth, w, out[r*stride+c:], stride, min(k.MR, rows-r), min(k.NR, columns-c), add)
			}
		}
	}
	tiled := (rows + k.MR - 1) / k.MR * k.MR
	switch {
	case taps == 0:
		for r := 0; r < rows && !add; r++ {
			clear(out[r*stride:][:columns])
		}
	case !k.Regular && !gemm.Collide(s.channels*s.stride):
		pointers := d.threadPointers(thread, taps*tiled)
		if s.halves != nil {
			point(s, pointers, s.halves, zeros, from, to, k.MR)
		} else {
			point(s, pointers, x, zeros, from, to, k.MR)
		}
		product(pointers, 0, taps, add)
	default: // windows are copied, a tap at a time
		pointers := d.threadPointers(thread, tiled)
		copies := d.threadCopies(thread, tiled*(s.depth+gemm.Apart))
		for r := range pointers {
			pointers[r] = &copies[r*(s.depth+gemm.Apart)]
		}
		places := d.threadPlaces(thread, rows)
		for t := range taps {
			s.locate(places, t, from, rows)
			for r, place := range places {
				if row := copies[r*(s.depth+gemm.Apart):][:s.depth]; place < 0 {
					clear(row)
				} else {
					copy(row, x[place:])
				}
			}
			product(pointers, t, 1, add || t > 0)
		}
	}
}

// items is how many parts a product has, about and at least: so many that all threads
// end at the same time, and as many whatever their number, on which no bit depends.
const items = 48

// Convolve implements device.Device: y = windows(x) w'.
func (d *Device) Convolve(y, x, w, bias device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	g.CheckWeights(w)
	if isHalf(x) {
		d.convolveHalf(&g, y, x, w, bias, c)
		return
	}
	switch s := g.forward(); {
	case g.winograd() && !bias.Exists():
		d.winogradConvolve(tilingOf(&g), floats(y), floats(x), d.winogradWeights(floats(w), g.Channels, g.Outs), g.Channels, g.Outs, false)
	case g.thin():
		padded := d.padded(&g, valuesOf(x))
		s.joinLines(&g)
		d.sweep(&s, floats(y), floats(padded), floats(w), floats(bias), false)
		d.Free(padded)
	default:
		d.sweep(&s, floats(y), floats(x), floats(w), floats(bias), false)
	}
}

// thin says that a window's taps have too few channels for a kernel to begin anew at each.
func (g *window) thin() bool {
	return g.Channels < 8 && g.Kernel > 1 && g.Groups == 1 && g.Dilation == 1
}

// padded copies x within its padding: there a window's line is one piece. A 0 follows.
func (d *Device) padded(g *window, x values) device.Tensor {
	n := g.Images*(g.Height+2*g.Padding)*(g.Width+2*g.Padding)*g.Channels + 1
	if x.halves != nil {
		t := d.alloc(kind{(n + 1) / 2, true}, []int{n})
		pad(d, g, t.Memory.(*memory).halves()[:n], x.halves)
		return t
	}
	t := d.Alloc(n)
	pad(d, g, floats(t), x.floats)
	return t
}

func pad[T float32 | uint16](d *Device, g *window, out, x []T) {
	height, line, inner := g.Height+2*g.Padding, (g.Width+2*g.Padding)*g.Channels, g.Width*g.Channels
	out[len(out)-1] = 0
	parallel.For(g.Images*height, d.threads, func(i int) {
		row := out[i*line:][:line]
		clear(row)
		if y := i%height - g.Padding; uint(y) < uint(g.Height) {
			copy(row[g.Padding*g.Channels:], x[(i/height*g.Height+y)*inner:][:inner])
		}
	})
}

// joinLines makes one tap of each line of a window over what padded makes.
func (s *sweep) joinLines(g *window) {
	s.height, s.width, s.depth = g.Height+2*g.Padding, g.Width+2*g.Padding, g.Kernel*g.Channels
	s.taps = nil
	for line := range g.Kernel {
		s.taps = append(s.taps, tap{line, 0, line * s.depth})
	}
}

// ConvolveBackwardData implements device.Device: windows(dx) += dy w.
func (d *Device) ConvolveBackwardData(dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	g := newWindow(dx, dy, c)
	g.CheckWeights(w)
	if isHalf(dx) {
		d.dataGradientHalf(&g, dx, dy, w, c, accumulate)
		return
	}
	if g.winograd() {
		d.winogradConvolve(tilingOf(&g), floats(dx), floats(dy), d.winogradTurned(floats(w), g.Channels, g.Outs), g.Outs, g.Channels, accumulate)
		return
	}
	for _, s := range g.backward() {
		if len(s.taps) == 0 && accumulate {
			continue
		}
		d.sweep(&s, floats(dx), floats(dy), floats(w), nil, accumulate)
	}
}

// Weights' gradients are sums over many rows of few results. They are cut into parts
// whose sizes depend on the shape alone, and the parts are added in order, so that the
// bits do not depend on the number of threads.
const (
	sumRows       = 256  // rows whose operands are packed at a time
	partRows      = 4096 // of a part, at least
	mostParts     = 8
	partsFloats   = 1 << 22 // that the parts of a gradient may take
	gradientOuts  = 512     // channels of the output that one item makes gradients of, at most
	gradientItems = 16      // at least, if there are so many tiles
)

// ConvolveBackwardWeights implements device.Device: dw += dy' windows(x).
func (d *Device) ConvolveBackwardWeights(dw, dbias, dy, x device.Tensor, c device.Convolution) {
	g := newWindow(x, dy, c)
	g.CheckWeights(dw)
	rows := dy.Rows()
	if isHalf(x) {
		d.weightGradientsHalf(&g, dw, dy, x, c)
	} else if g.winograd() {
		d.winogradGradients(tilingOf(&g), floats(dw), floats(dy), floats(x), g.Channels, g.Outs)
	} else if g.thin() {
		d.thinGradients(gemm.Float32(), &g, floats(dw), valuesOf(dy), valuesOf(x))
	} else {
		d.weightGradients(gemm.Float32(), &g, floats(dw), valuesOf(dy), valuesOf(x))
	}
	if dbias.Exists() {
		d.addColumnSums(floats(dbias), valuesOf(dy), rows, g.Outs)
	}
}

func (d *Device) weightGradients(k *gemm.Kernels, g *window, dw []float32, dy, x values) {
	s := g.forward()
	rows, size, taps := s.pixels(), g.Kernel*g.Kernel*s.depth, len(s.taps)
	sumRows := sumRows
	if x.halves != nil {
		sumRows *= 2 // as many places of the sum
	}
	zeros := (*uint16)(unsafe.Pointer(d.zeroRow(g.Channels)))
	parts := max(1, min(rows/partRows, mostParts, partsFloats/len(dw)))
	partial := d.Alloc((parts - 1) * len(dw))
	tapPanels := (s.depth + k.NR - 1) / k.NR
	// Items are about square, so that what is packed for one meets as much of the other.
	outBlocks, columnBlocks := (s.outs+gradientOuts-1)/gradientOuts, 1
	for parts*s.groups*outBlocks*columnBlocks < gradientItems {
		if outs, panels := s.outs/outBlocks, taps*tapPanels/columnBlocks; outs > panels*k.NR && outs > 2*k.MR {
			outBlocks *= 2
		} else if panels > 1 {
			columnBlocks *= 2
		} else {
			break
		}
	}
	parallel.ForWorker(parts*s.groups*outBlocks*columnBlocks, d.threads, func(thread, i int) {
		part, rest := i/(s.groups*outBlocks*columnBlocks), i%(s.groups*outBlocks*columnBlocks)
		group, rest := rest/(outBlocks*columnBlocks), rest%(outBlocks*columnBlocks)
		outBlock, columnBlock := rest/columnBlocks, rest%columnBlocks
		firstOut, lastOut := outBlock*s.outs/outBlocks, (outBlock+1)*s.outs/outBlocks
		sum, add := dw, true
		if part > 0 {
			sum, add = floats(partial)[(part-1)*len(dw):], false
		}
		sum = sum[group*s.outs*size:]
		panelsA := (lastOut - firstOut + k.MR - 1) / k.MR
		scratch := d.threadScratch(thread, panelsA*(sumRows*k.MR+gemm.Apart)+sumRows*k.NR)
		b, a := scratch[:sumRows*k.NR], scratch[sumRows*k.NR:]
		places := d.threadPlaces(thread, sumRows)
		for from, last := part*rows/parts, (part+1)*rows/parts; from < last; from += sumRows {
			depth := min(sumRows, last-from)
			places := places[:depth]
			depth = d.packGradients(thread, a, dy, from, depth, g.Outs, group*s.outs+firstOut, lastOut-firstOut, k.MR)
			apart := depth*k.MR + gemm.Apart
			placed, pointers := -1, []*uint16(nil)
			for column := columnBlock * taps * tapPanels / columnBlocks; column < (columnBlock+1)*taps*tapPanels/columnBlocks; column++ {
				t, first := column/tapPanels, column%tapPanels*k.NR
				if placed != t {
					s.locate(places, t, from, len(places))
					if placed = t; x.halves != nil {
						pointers = pointTo(d.threadHalves(thread, sumRows), x.halves, places, zeros)
					}
				}
				columns := min(k.NR, s.depth-first)
				if x.halves != nil {
					gemm.PackPairs(b, pointers, group*s.depth+first, columns, k.NR)
				} else {
					packPlaces(b, x.floats, places, group*s.depth+first, columns, k.NR)
				}
				for panel := range panelsA {
					o := firstOut + panel*k.MR
					k.Packed(depth, a[panel*apart:], b, sum[o*size+t*s.depth+first:], size, min(k.MR, lastOut-o), columns, add)
				}
			}
			add = true
		}
	})
	d.addParts(dw, floats(partial))
	d.Free(partial)
}

// packGradients packs n channels from first on of rows of gradients in panels of that
// width, and says how many places of the sum these are: rows, or pairs of rows.
func (d *Device) packGradients(thread int, a []float32, dy values, from, rows, channels, first, n, width int) int {
	if dy.halves == nil {
		gemm.PackPanels(a, dy.floats[from*channels+first:], rows, n, width, channels, rows*width+gemm.Apart)
		return rows
	}
	depth := (rows + 1) / 2
	both := d.threadCopies(thread, depth*n)
	for p := range depth {
		row := dy.halves[(from+2*p)*channels+first:][:n]
		next := noHalves[:min(n, len(noHalves))]
		if 2*p+1 < rows {
			next = dy.halves[(from+2*p+1)*channels+first:][:n]
		}
		gemm.Interleave(both[p*n:], row, next)
	}
	gemm.PackPanels(a, both, depth, n, width, n, depth*width+gemm.Apart)
	return depth
}

// noHalves are zeros, as many as an item's channels.
var noHalves [gradientOuts]uint16

// pointTo points to the pixels at the given places, or to zeros, an even number of them.
func pointTo(pointers []*uint16, x []uint16, places []int, zeros *uint16) []*uint16 {
	pointers = pointers[:(len(places)+1)/2*2]
	pointers[len(pointers)-1] = zeros
	for p, place := range places {
		pointers[p] = zeros
		if place >= 0 {
			pointers[p] = &x[place]
		}
	}
	return pointers
}

// thinGradients is weightGradients of a convolution of few channels: windows are gathered,
// as many as are summed at a time.
func (d *Device) thinGradients(k *gemm.Kernels, g *window, dw []float32, dy, x values) {
	s := g.forward()
	s.joinLines(g)
	rows, size := s.pixels(), g.Size()
	parts := max(1, min(rows/partRows, mostParts, partsFloats/len(dw)))
	partial := d.Alloc((parts - 1) * len(dw))
	padded := d.padded(g, x)
	panelsA := (g.Outs + k.MR - 1) / k.MR
	zeros := (*uint16)(unsafe.Pointer(d.zeroRow(size)))
	parallel.ForWorker(parts, d.threads, func(thread, part int) {
		sum, add := dw, true
		if part > 0 {
			sum, add = floats(partial)[(part-1)*len(dw):], false
		}
		scratch := d.threadScratch(thread, panelsA*(sumRows*k.MR+gemm.Apart)+sumRows*(k.NR+size))
		b, windows, a := scratch[:sumRows*k.NR], scratch[sumRows*k.NR:][:sumRows*size], scratch[sumRows*(k.NR+size):]
		places := d.threadPlaces(thread, sumRows)
		var pointers []*uint16
		for from, last := part*rows/parts, (part+1)*rows/parts; from < last; from += sumRows {
			places := places[:min(sumRows, last-from)]
			s.locate(places, 0, from, len(places))
			if x.halves != nil {
				halves := unsafe.Slice((*uint16)(unsafe.Pointer(&windows[0])), len(windows))
				gatherLines(g, halves, valuesOf(padded).halves, places)
				for p := range places {
					places[p] = p * size
				}
				pointers = pointTo(d.threadHalves(thread, sumRows), halves, places, zeros)
			} else {
				gatherLines(g, windows, floats(padded), places)
			}
			depth := d.packGradients(thread, a, dy, from, len(places), g.Outs, 0, g.Outs, k.MR)
			apart := depth*k.MR + gemm.Apart
			for first := 0; first < size; first += k.NR {
				columns := min(k.NR, size-first)
				if x.halves != nil {
					gemm.PackPairs(b, pointers, first, columns, k.NR)
				} else {
					gemm.Pack(b, windows[first:], depth, columns, k.NR, size, 1)
				}
				for panel := range panelsA {
					o := panel * k.MR
					k.Packed(depth, a[panel*apart:], b, sum[o*size+first:], size, min(k.MR, g.Outs-o), columns, add)
				}
			}
			add = true
		}
	})
	d.addParts(dw, floats(partial))
	d.Free(partial)
	d.Free(padded)
}

// gatherLines copies windows that begin at the given places of what padded makes.
func gatherLines[T float32 | uint16](g *window, windows, x []T, places []int) {
	size, line, length := g.Size(), (g.Width+2*g.Padding)*g.Channels, g.Kernel*g.Channels
	for p, place := range places {
		for t := range g.Kernel {
			copy(windows[p*size+t*length:][:length], x[place+t*line:])
		}
	}
}

// addParts adds the parts of a sum in their order.
func (d *Device) addParts(sum, parts []float32) {
	for ; len(parts) > 0; parts = parts[len(sum):] {
		d.spans(len(sum), func(from, to int) { addTo(sum[from:to], parts[from:to]) })
	}
}

// locate writes where in x the channels lie that tap t reads for count grid places from
// the given one on; -1 for those outside of the map.
func (s *sweep) locate(places []int, t, from, count int) {
	image, rest := from/(s.rows*s.columns), from%(s.rows*s.columns)
	row, column := rest/s.columns, rest%s.columns
	for p := range count {
		y, x := row*s.stride+s.taps[t].y, column*s.stride+s.taps[t].x
		places[p] = -1
		if uint(y) < uint(s.height) && uint(x) < uint(s.width) {
			places[p] = ((image*s.height+y)*s.width + x) * s.channels
		}
		if column++; column == s.columns {
			column = 0
			if row++; row == s.rows {
				row, image = 0, image+1
			}
		}
	}
}

// packPlaces packs the channels from first on of pixels into a panel, those that lie the
// same distance apart together.
func packPlaces(dst, x []float32, places []int, first, n, width int) {
	for p := 0; p < len(places); {
		run := 1
		if places[p] < 0 {
			for p+run < len(places) && places[p+run] < 0 {
				run++
			}
			clear(dst[p*width : (p+run)*width])
			p += run
			continue
		}
		stride := n
		if p+1 < len(places) && places[p+1] > places[p] {
			stride = places[p+1] - places[p]
			for p+run < len(places) && places[p+run] == places[p]+run*stride {
				run++
			}
		}
		gemm.Pack(dst[p*width:], x[places[p]+first:], run, n, width, stride, 1)
		p += run
	}
}

// pairable says that a convolution's channels make whole pairs for the kernels of
// bfloat16, which the processor has.
func (g *window) pairable() bool {
	return gemm.BFloat16() != nil && g.Channels/g.Groups%2 == 0 && g.Outs/g.Groups%2 == 0 && !g.thin()
}

// inPairs is a sweep that reads pairs of channels.
func (s sweep) inPairs() sweep {
	s.channels, s.depth = s.channels/2, s.depth/2
	return s
}

// convolveHalf is Convolve of bfloat16.
func (d *Device) convolveHalf(g *window, y, x, w, bias device.Tensor, c device.Convolution) {
	switch {
	case gemm.BFloat16() != nil && g.thin():
		d.convolveThinHalf(g, y, x, w, bias)
		return
	case !g.pairable():
		d.converted(func(v *conversion) { d.Convolve(v.out(y), v.in(x), v.rounded(w), bias, c) })
		return
	}
	s, k, wide := g.forward().inPairs(), gemm.BFloat16(), floats(w)
	channels := 2 * s.depth
	weights := func(thread int, panel []float32, group, first, columns int, t tap) {
		scratch := d.threadScratch(thread, columns*s.depth)
		halves := unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[0])), 2*len(scratch))
		for j := range columns {
			gemm.Narrow(halves[j*channels:][:channels], wide[(group*s.outs+first+j)*s.outStride+t.weights:][:channels])
		}
		gemm.Pack(panel, scratch, s.depth, columns, k.NR, 1, s.depth)
	}
	d.sweepBy(k, &s, valuesOf(y), pairs(valuesOf(x).halves), weights, floats(bias), false)
}

// convolveThinHalf is convolveHalf of few channels: pairs are of a window's line, whose
// last value may have to be multiplied by 0 to have one beside it.
func (d *Device) convolveThinHalf(g *window, y, x, w, bias device.Tensor) {
	padded := d.padded(g, valuesOf(x))
	line := g.Kernel * g.Channels
	depth := (line + 1) / 2
	weights := d.Alloc(g.Outs * g.Kernel * depth)
	narrow := weights.Memory.(*memory).halves()
	for i := range g.Outs * g.Kernel {
		row := narrow[i*2*depth:][:2*depth]
		row[2*depth-1] = 0
		gemm.Narrow(row[:line], floats(w)[i*line:][:line])
	}
	s := g.forward()
	s.joinLines(g)
	s.halves, s.depth, s.outStride = valuesOf(padded).halves, depth, g.Kernel*depth
	for i := range s.taps {
		s.taps[i].weights = i * depth
	}
	k := gemm.BFloat16()
	d.sweepBy(k, &s, valuesOf(y), nil, s.plain(k, floats(weights)), floats(bias), false)
	d.Free(weights)
	d.Free(padded)
}

// dataGradientHalf is ConvolveBackwardData of bfloat16: the sum is over pairs of outputs.
func (d *Device) dataGradientHalf(g *window, dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	if !g.pairable() {
		d.converted(func(v *conversion) {
			to := v.out
			if accumulate {
				to = v.changed
			}
			d.ConvolveBackwardData(to(dx), v.in(dy), v.rounded(w), c, accumulate)
		})
		return
	}
	k, wide := gemm.BFloat16(), floats(w)
	for _, s := range g.backward() {
		if len(s.taps) == 0 && accumulate {
			continue
		}
		s := s.inPairs()
		weights := func(_ int, panel []float32, group, first, columns int, t tap) {
			if columns < k.NR {
				clear(panel)
			}
			for p := range s.depth {
				row := (group*s.depth+p)*2*s.depthStride + t.weights + first
				gemm.NarrowPairs(panel[p*k.NR:], wide[row:][:columns], wide[row+s.depthStride:][:columns])
			}
		}
		d.sweepBy(k, &s, valuesOf(dx), pairs(valuesOf(dy).halves), weights, nil, accumulate)
	}
}

// weightGradientsHalf is ConvolveBackwardWeights of bfloat16, but for the bias: the sum is
// over pairs of windows.
func (d *Device) weightGradientsHalf(g *window, dw, dy, x device.Tensor, c device.Convolution) {
	if gemm.BFloat16() == nil {
		d.converted(func(v *conversion) { d.ConvolveBackwardWeights(dw, device.Tensor{}, v.in(dy), v.in(x), c) })
		return
	}
	if g.thin() {
		d.thinGradients(gemm.BFloat16(), g, floats(dw), valuesOf(dy), valuesOf(x))
		return
	}
	d.weightGradients(gemm.BFloat16(), g, floats(dw), valuesOf(dy), valuesOf(x))
}

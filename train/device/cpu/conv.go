package cpu

import (
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
	image, p := p/(s.rows*s.columns), p%(s.rows*s.columns)
	y, x := p/s.columns*s.step+s.top, p%s.columns*s.step+s.left
	return (image*s.outHeight+y)*s.outWidth + x
}

// panels is how many panels of columns a group's weights are packed in.
func (s *sweep) panels(k *gemm.Kernels) int { return (s.outs + k.NR - 1) / k.NR }

// pack packs the weights of all groups, a panel after the other, each taps x depth x
// NR.
func (d *Device) pack(s *sweep, k *gemm.Kernels, weights []float32) []float32 {
	panels, size := s.panels(k), len(s.taps)*s.depth*k.NR
	packed := d.packedWeights(s.groups * panels * size)
	perGroup := len(weights) / s.groups
	parallel.For(s.groups*panels, d.threads, func(i int) {
		group, first := i/panels, i%panels*k.NR
		w := weights[group*perGroup:]
		for t, tap := range s.taps {
			gemm.Pack(packed[i*size+t*s.depth*k.NR:], w[tap.weights+first*s.outStride:], s.depth, min(k.NR, s.outs-first), k.NR, s.depthStride, s.outStride)
		}
	})
	return packed
}

// point writes the pointers to what the taps of grid places from, ..., to-1 read, in
// tiles: taps x MR pointers each. Rows of a tile that there are not point to zeros.
func (s *sweep) point(pointers []*float32, x []float32, zeros *float32, from, to, mr int) {
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
				at[t*mr] = &x[((image*s.height+y)*s.width+c)*s.channels]
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

// sweep makes a sweep's results, or adds them to what is there. bias may be nil.
func (d *Device) sweep(s *sweep, y, x, weights, bias []float32, accumulate bool) {
	pixels := s.pixels()
	if pixels == 0 {
		return
	}
	k := gemm.Float32()
	packed := d.pack(s, k, weights)
	zeros := d.zeroRow(s.depth)
	panels := s.panels(k)
	blockRows := blockRows(k)
	blocks := (pixels + blockRows - 1) / blockRows
	parts := min(panels, (items+blocks*s.groups-1)/(blocks*s.groups)) // of the columns
	parallel.ForWorker(blocks*s.groups*parts, d.threads, func(thread, i int) {
		block, group, part := i/(s.groups*parts), i/parts%s.groups, i%parts
		from := block * blockRows
		to := min(pixels, from+blockRows)
		first, last := part*panels/parts, (part+1)*panels/parts
		column := group*s.outs + first*k.NR
		columns := min(s.outs-first*k.NR, (last-first)*k.NR)
		out, stride, add := []float32(nil), (last-first)*k.NR, false
		if s.contiguous() {
			out, stride, add = y[from*s.outChannels+column:], s.outChannels, accumulate
			for r := 0; bias != nil && r < to-from; r++ {
				copy(out[r*stride:], bias[column:column+columns])
				add = true
			}
		} else {
			out = d.threadScratch(thread, blockRows*stride)
		}
		d.block(s, thread, from, to, out, stride, x[group*s.depth:], packed[(group*panels+first)*len(s.taps)*s.depth*k.NR:], zeros, columns, add)
		for p := from; p < to && !s.contiguous(); p++ {
			result := y[s.place(p)*s.outChannels+column:][:columns]
			if accumulate {
				addTo(result, out[(p-from)*stride:][:columns])
			} else {
				copy(result, out[(p-from)*stride:])
			}
		}
	})
}

// block makes columns of the results of grid places from, ..., to-1.
func (d *Device) block(s *sweep, thread, from, to int, out []float32, stride int, x, weights []float32, zeros *float32, columns int, add bool) {
	k := gemm.Float32()
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
		s.point(pointers, x, zeros, from, to, k.MR)
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
	switch s := g.forward(); {
	case g.winograd() && !bias.Exists():
		d.winogradConvolve(tilingOf(&g), floats(y), floats(x), d.winogradWeights(floats(w), g.Channels, g.Outs), g.Channels, g.Outs, false)
	case g.thin():
		padded := d.pad(&g, floats(x))
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

// pad copies x within its padding: there a window's line is one piece.
func (d *Device) pad(g *window, x []float32) device.Tensor {
	height, line, inner := g.Height+2*g.Padding, (g.Width+2*g.Padding)*g.Channels, g.Width*g.Channels
	padded := d.Alloc(g.Images, height, g.Width+2*g.Padding, g.Channels)
	out := floats(padded)
	parallel.For(g.Images*height, d.threads, func(i int) {
		row := out[i*line:][:line]
		clear(row)
		if y := i%height - g.Padding; uint(y) < uint(g.Height) {
			copy(row[g.Padding*g.Channels:], x[(i/height*g.Height+y)*inner:][:inner])
		}
	})
	return padded
}

// joinLines makes one tap of each line of a window over what pad makes.
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
	if g.winograd() {
		d.winogradGradients(tilingOf(&g), floats(dw), floats(dy), floats(x), g.Channels, g.Outs)
	} else if g.thin() {
		padded := d.pad(&g, floats(x))
		d.thinGradients(&g, floats(dw), floats(dy), floats(padded))
		d.Free(padded)
	} else {
		d.weightGradients(&g, floats(dw), floats(dy), floats(x))
	}
	if dbias.Exists() {
		d.addColumnSums(floats(dbias), floats(dy), rows, g.Outs)
	}
}

func (d *Device) weightGradients(g *window, dw, dy, x []float32) {
	k := gemm.Float32()
	s := g.forward()
	rows, size, taps := s.pixels(), g.Kernel*g.Kernel*s.depth, len(s.taps)
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
			apart := depth*k.MR + gemm.Apart
			gemm.PackPanels(a, dy[from*g.Outs+group*s.outs+firstOut:], depth, lastOut-firstOut, k.MR, g.Outs, apart)
			placed := -1
			for column := columnBlock * taps * tapPanels / columnBlocks; column < (columnBlock+1)*taps*tapPanels/columnBlocks; column++ {
				t, first := column/tapPanels, column%tapPanels*k.NR
				if placed != t {
					s.locate(places, t, from, depth)
					placed = t
				}
				columns := min(k.NR, s.depth-first)
				packPlaces(b, x, places[:depth], group*s.depth+first, columns, k.NR)
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

// thinGradients is weightGradients of a convolution of few channels, of what pad makes:
// windows are gathered, as many as are summed at a time.
func (d *Device) thinGradients(g *window, dw, dy, x []float32) {
	k := gemm.Float32()
	s := g.forward()
	s.joinLines(g)
	rows, size := s.pixels(), g.Size()
	parts := max(1, min(rows/partRows, mostParts, partsFloats/len(dw)))
	partial := d.Alloc((parts - 1) * len(dw))
	panelsA := (g.Outs + k.MR - 1) / k.MR
	parallel.ForWorker(parts, d.threads, func(thread, part int) {
		sum, add := dw, true
		if part > 0 {
			sum, add = floats(partial)[(part-1)*len(dw):], false
		}
		scratch := d.threadScratch(thread, panelsA*(sumRows*k.MR+gemm.Apart)+sumRows*(k.NR+size))
		b, windows, a := scratch[:sumRows*k.NR], scratch[sumRows*k.NR:][:sumRows*size], scratch[sumRows*(k.NR+size):]
		places := d.threadPlaces(thread, sumRows)
		for from, last := part*rows/parts, (part+1)*rows/parts; from < last; from += sumRows {
			depth := min(sumRows, last-from)
			apart := depth*k.MR + gemm.Apart
			gemm.PackPanels(a, dy[from*g.Outs:], depth, g.Outs, k.MR, g.Outs, apart)
			s.locate(places, 0, from, depth)
			line := s.width * s.channels
			for p, place := range places[:depth] {
				for t := range s.taps {
					copy(windows[p*size+t*s.depth:][:s.depth], x[place+t*line:])
				}
			}
			for first := 0; first < size; first += k.NR {
				columns := min(k.NR, size-first)
				gemm.Pack(b, windows[first:], depth, columns, k.NR, size, 1)
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

//go:build cuda

package cuda

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cublas"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
)

// vector is the kernel that takes as many channels a thread as fit, and how
// many they are.
func vector(kernel string, channels int) (name string, width int) {
	if channels%4 == 0 {
		return kernel + "_4", 4
	}
	return kernel + "_1", 1
}

// matrix is part of a tensor, from element offset on, as cuBLAS sees it.
func matrix(t device.Tensor, offset, lead, stride int) cublas.Matrix {
	p := pointer(t)
	if p != 0 {
		p += uintptr(int64(offset) * elementSize(isHalf(t)))
	}
	return cublas.Matrix{Pointer: p, BF16: isHalf(t), Lead: lead, Stride: stride}
}

// gemm queues matrix products, see cublas.Handle.Gemm; what is their name in a profile.
func (d *Device) gemm(what string, transA, transB bool, m, n, k int, a, b cublas.Matrix, accumulate bool, c cublas.Matrix, count int) {
	if m*n*k*count == 0 {
		return
	}
	bytes := int64(count) * (int64(m)*int64(k)*elementSize(a.BF16) + int64(k)*int64(n)*elementSize(b.BF16) + int64(m)*int64(n)*elementSize(c.BF16))
	flops := 2 * int64(count) * int64(m) * int64(n) * int64(k)
	d.do(func() error {
		return d.timed(what, bytes, flops, func() error {
			return d.blas.Gemm(transA, transB, m, n, k, a, b, accumulate, c, count, d.compute)
		})
	})
}

// wide names the kernel that takes 16 bytes of channels at once, if they can be
// divided so, and how many channels that are.
func (d *Device) wide(kernel string, channels int) (name string, width int) {
	if wide := int(16 / elementSize(d.half)); channels%wide == 0 {
		return kernel + "_16", wide
	}
	return kernel + "_1", 1
}

// launchPacks launches a kernel with a thread for each of n packs, counted in 32 bits.
func (d *Device) launchPacks(kernel string, n int, bytes int64, args ...any) {
	mustBe(n < 1<<31, "%s of %d packs", kernel, n)
	d.launchFlat(kernel, n, bytes, args...)
}

// launchSums launches a kernel that adds up the partial sums of channels.
func (d *Device) launchSums(kernel string, channels int, bytes int64, args ...any) {
	d.launch(kernel, [3]int{(channels + 31) / 32, 1, 1}, [2]int{threads, 1}, bytes, args...)
}

// Add implements device.Device.
func (d *Device) Add(dst, src device.Tensor) {
	mustBe(dst.Len() == src.Len() && isHalf(dst) == isHalf(src), "sum of %v and %v", dst.Shape, src.Shape)
	n, bytes := dst.Len(), 2*size(dst)+size(src)
	switch {
	case d.half && !isHalf(dst):
		d.launchFlat("add_float", n, bytes, dst, src, n)
	case n%4 == 0:
		d.launchFlat("add_4", n/4, bytes, dst, src, n)
	default:
		d.launchFlat("add_1", n, bytes, dst, src, n)
	}
}

// window is a geometry as kernels take it.
type window struct{ device.Window }

func newWindow(x, y device.Tensor, c device.Convolution) window {
	return window{device.NewWindow(x, y, c)}
}

// arguments appends WINDOW of kernels.cu.
func (g *window) arguments(args ...any) []any {
	return append(args, g.Height, g.Width, g.Channels, g.OutHeight, g.OutWidth, g.Kernel, g.Stride, g.Padding, g.Dilation, g.Groups)
}

// lead is the distance of gathered receptive fields, a multiple of 8 values: matrix
// products of rows that do not begin at 16 bytes are slow. The stem's have 147.
func (g *window) lead() int {
	if g.Groups > 1 {
		return g.Size()
	}
	return (g.Size() + 7) / 8 * 8
}

// fields is the tensor for the receptive fields of rows outputs.
func (d *Device) fields(g *window, rows int) device.Tensor {
	return d.AllocActivation(rows, g.lead())
}

// fitting is how many units of so many values fit into the workspace, at least one.
func (d *Device) fitting(values int) int {
	return max(1, int(d.workspace/(int64(values)*elementSize(d.half))))
}

// gather writes the receptive fields of outputs first, first+1, ... to fields.
func (d *Device) gather(g *window, fields, x device.Tensor, first, rows int) {
	kernel, width := d.wide("im2col", g.Channels/g.Groups)
	packs := *g
	packs.Channels /= width
	lead := fields.Channels() / width
	if width == 1 && g.Groups == 1 {
		_, width = d.wide("", fields.Channels())
		kernel = "im2col_values"
	}
	mustBe(first+rows < 1<<31 && g.Images*g.Height < 1<<31, "windows of %v", x.Shape)
	read := min(int64(rows)*int64(g.Size()), int64(rows)*int64(g.Stride*g.Stride)*int64(g.Channels)) * elementSize(d.half)
	at := newBlocks(rows, fields.Channels(), 1, width, gatherRows)
	d.launch(kernel, at.grid, at.block, read+size(fields), packs.arguments(fields, x, lead, first, rows, at.chunk)...)
}

// factor is w as matrix products take it, its rows of width values lead apart; done
// gives it back.
func (d *Device) factor(w device.Tensor, width, lead int) (factor device.Tensor, done func()) {
	if !d.half && lead == width {
		return w, func() {}
	}
	rows := w.Len() / width
	factor = d.AllocActivation(rows, lead)
	if lead == width {
		d.launchFlat("narrow", w.Len(), size(w)+size(factor), factor, w, w.Len())
	} else {
		d.launchPacks("pad_rows", rows*lead, size(w)+size(factor), factor, w, rows, width, lead)
	}
	return factor, func() { d.Free(factor) }
}

// Convolve implements device.Device: y = windows(x) w' + bias.
func (d *Device) Convolve(y, x, w, bias device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	g.CheckWeights(w)
	rows, groups := y.Rows(), g.Groups
	outs, depth := g.Outs/groups, g.Size()/groups
	if bias.Exists() {
		d.launchFlat("fill_rows", y.Len(), size(y), y, bias, y.Len(), g.Outs)
	}
	if g.Direct() {
		w, done := d.factor(w, depth, depth)
		defer done()
		d.gemm("gemm forward", false, true, rows, g.Outs, depth, matrix(x, 0, depth, 0), matrix(w, 0, depth, 0), bias.Exists(), matrix(y, 0, g.Outs, 0), 1)
		return
	}
	if !bias.Exists() && d.convolves(cudnn.Forward, &g) {
		factor, done := d.factor(w, depth, depth)
		convolved := d.convolved(cudnn.Forward, &g, x, factor, y)
		done()
		if convolved {
			return
		}
	}
	lead := g.lead() / groups
	w, done := d.factor(w, depth, lead)
	defer done()
	weights := matrix(w, 0, lead, outs*lead)
	step := d.fitting(g.lead())
	for from := 0; from < rows; from += step {
		n := min(step, rows-from)
		fields := d.fields(&g, n)
		d.gather(&g, fields, x, from, n)
		d.gemm("gemm forward", false, true, n, outs, lead, matrix(fields, 0, g.lead(), lead), weights, bias.Exists(), matrix(y, from*g.Outs, g.Outs, outs), groups)
		d.Free(fields)
	}
}

// ConvolveBackwardData implements device.Device: windows(dx) += dy w. Whole
// images are taken at a time, since windows of one image overlap.
func (d *Device) ConvolveBackwardData(dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	g := newWindow(dx, dy, c)
	g.CheckWeights(w)
	groups := g.Groups
	outs, depth := g.Outs/groups, g.Size()/groups
	w, done := d.factor(w, depth, depth)
	defer done()
	weights := matrix(w, 0, depth, outs*depth)
	if g.Direct() {
		d.gemm("gemm data", false, false, dy.Rows(), depth, g.Outs, matrix(dy, 0, g.Outs, 0), weights, accumulate, matrix(dx, 0, depth, 0), 1)
		return
	}
	if d.convolves(cudnn.Data, &g) {
		to := dx
		if accumulate {
			to = d.AllocActivation(dx.Shape...)
		}
		convolved := d.convolved(cudnn.Data, &g, to, w, dy)
		if accumulate {
			if convolved {
				d.Add(dx, to)
			}
			d.Free(to)
		}
		if convolved {
			return
		}
	}
	kernel, width := d.wide("col2im", g.Channels/groups)
	perImage, place := g.OutHeight*g.OutWidth, g.Height*g.Width*g.Channels
	step := d.fitting(max(1, perImage*g.Size()))
	for image := 0; image < g.Images; image += step {
		images := min(step, g.Images-image)
		n := images * perImage
		fields := d.AllocActivation(n, g.Size())
		d.gemm("gemm data", false, false, n, depth, outs, matrix(dy, image*perImage*g.Outs, g.Outs, outs), weights, false, matrix(fields, 0, g.Size(), depth), groups)
		bytes := size(fields) + int64(images*place)*elementSize(d.half)
		target := matrix(dx, image*place, 0, 0).Pointer
		d.launchPacks(kernel, images*place/width, bytes, g.arguments(target, fields, images*place/width, accumulate)...)
		d.Free(fields)
	}
}

// ConvolveBackwardWeights implements device.Device: dw += dy' windows(x).
func (d *Device) ConvolveBackwardWeights(dw, dbias, dy, x device.Tensor, c device.Convolution) {
	g := newWindow(x, dy, c)
	g.CheckWeights(dw)
	rows, groups := dy.Rows(), g.Groups
	outs, depth := g.Outs/groups, g.Size()/groups
	sums := matrix(dw, 0, depth, outs*depth)
	if g.Direct() {
		d.sumProducts(dw, dy, x, 0, rows)
	} else if !d.convolvedWeights(dw, dy, x, &g) {
		step := d.fitting(g.lead())
		for from := 0; from < rows; from += step {
			n := min(step, rows-from)
			fields := d.fields(&g, n)
			d.gather(&g, fields, x, from, n)
			if groups == 1 {
				d.sumProducts(dw, dy, fields, from, n)
				d.Free(fields)
				continue
			}
			d.gemm("gemm weights", true, false, outs, depth, n, matrix(dy, from*g.Outs, g.Outs, outs), matrix(fields, 0, g.Size(), depth), true, sums, groups)
			d.Free(fields)
		}
	}
	if dbias.Exists() && rows > 0 {
		b := newBlocks(rows, g.Outs, 1, 1, sumRows)
		partial := d.doubles(b.chunks * 2 * g.Outs)
		d.launch("column_sums", b.grid, b.block, size(dy), partial, dy, rows, b.chunk, g.Outs)
		d.launchSums("add_column_sums", g.Outs, size(partial), dbias, partial, b.chunks, g.Outs)
		d.Free(partial)
	}
}

// convolvedWeights has cuDNN compute dw += dy' windows(x), if it does.
func (d *Device) convolvedWeights(dw, dy, x device.Tensor, g *window) bool {
	if !d.convolves(cudnn.Weights, g) {
		return false
	}
	sums := d.Alloc(dw.Shape...)
	defer d.Free(sums)
	if !d.convolved(cudnn.Weights, g, x, sums, dy) {
		return false
	}
	d.launchPacks("add_parts", dw.Len(), size(sums)+2*size(dw), dw, sums, 1, 1, dw.Len(), dw.Len())
	return true
}

const (
	// partRows is how many rows a partial sum of products has. Cards sum them in
	// float32, and within a tensor core not even rounded, and a small matrix of
	// sums over many rows leaves most of a card idle.
	partRows = 8192
	// partBytes bounds the memory of partial sums.
	partBytes = 32 << 20
)

// sumProducts computes dw += dy' x over rows of x, which belong to those of dy from
// one on: in parts, which are then added in float64 in their order. x may be wider
// than dw by what is behind its fields.
func (d *Device) sumProducts(dw, dy, x device.Tensor, from, rows int) {
	outs, lead := dy.Channels(), x.Channels()
	width := dw.Len() / outs
	most := max(1, partBytes/(4*outs*lead))
	part := max(partRows, (rows+most-1)/most)
	parts := rows / part
	if parts < 2 && lead == width {
		d.gemm("gemm weights", true, false, outs, lead, rows, matrix(dy, from*outs, outs, 0), matrix(x, 0, lead, 0), true, matrix(dw, 0, lead, 0), 1)
		return
	}
	done := parts * part
	count := parts
	if done < rows {
		count++
	}
	partial := d.Alloc(count, outs, lead)
	d.gemm("gemm weights", true, false, outs, lead, part, matrix(dy, from*outs, outs, part*outs), matrix(x, 0, lead, part*lead), false, matrix(partial, 0, lead, outs*lead), parts)
	d.gemm("gemm weights", true, false, outs, lead, rows-done, matrix(dy, (from+done)*outs, outs, 0), matrix(x, done*lead, lead, 0), false, matrix(partial, parts*outs*lead, lead, 0), 1)
	d.launchPacks("add_parts", dw.Len(), size(partial)+2*size(dw), dw, partial, count, outs, width, lead)
	d.Free(partial)
}

// doubles is memory for n float64.
func (d *Device) doubles(n int) device.Tensor { return d.Alloc(n, 2) }

// blocks is how kernels walk over the rows of views.
type blocks struct {
	grid          [3]int
	block         [2]int
	chunk, chunks int // rows of a block, blocks along the rows of a view
}

// spread is how many rows a thread should have; the least, where a card would not be
// full of blocks otherwise; and the most, where there would be too many blocks along
// the rows of a view.
type spread struct{ rows, least, most, blocks int }

// full is how many blocks a card of today has at once.
const full = 1024

// Kernels that sum rows, whose partial sums are added up by few threads; that do
// not; and that gather windows. A thread's first row takes most.
var (
	sumRows    = spread{16, 8, 64, 256}
	mapRows    = spread{16, 2, 1 << 20, 1 << 15}
	gatherRows = spread{16, 4, 1 << 20, 1 << 15}
)

// newBlocks divides the rows of views with so many channels, width of them a thread.
func newBlocks(rows, channels, views, width int, s spread) blocks {
	packs, x := (channels+width-1)/width, 1
	for x < 32 && x < packs {
		x *= 2
	}
	y, across, each := threads/x, (packs+x-1)/x, s.rows
	for each > s.least && across*views*(rows/(y*each)) < full {
		each /= 2
	}
	chunk := min(y*s.most, max(y*each, (rows+s.blocks-1)/s.blocks))
	chunks := (rows + chunk - 1) / chunk
	return blocks{[3]int{across, chunks, views}, [2]int{x, y}, chunk, chunks}
}

// BatchNorm implements device.Device.
func (d *Device) BatchNorm(y, x, residual device.Tensor, b *device.BatchNorm) {
	c, views := x.Channels(), b.Views
	rows := x.Rows() / views
	mustBe(x.Rows()%views == 0 && b.SavedMean.Len() == views*c && b.Weight.Len() == c, "batch norm of %v of %d views", x.Shape, views)
	if rows == 0 {
		return
	}
	kernel, width := d.wide("batch_norm_sums", c)
	at := newBlocks(rows, c, views, width, sumRows)
	partial := d.doubles(views * at.chunks * 2 * c)
	d.launch(kernel, at.grid, at.block, size(x), partial, x, rows, at.chunk, c)
	d.launchSums("batch_norm_statistics", c, size(partial), partial, x, rows, at.chunks, views, c, b.Epsilon, b.RunningMomentum,
		b.SavedMean, b.SavedInvStd, b.RunningMean, b.RunningVar)
	d.Free(partial)
	d.normalise(y, x, residual, b, b.SavedMean, b.SavedInvStd, views)
}

// BatchNormInference implements device.Device.
func (d *Device) BatchNormInference(y, x, residual device.Tensor, b *device.BatchNorm) {
	c := x.Channels()
	mean, invStd := d.Alloc(c), d.Alloc(c)
	d.launchFlat("batch_norm_fixed", c, 0, c, b.Epsilon, b.RunningMean, b.RunningVar, mean, invStd)
	d.normalise(y, x, residual, b, mean, invStd, 1)
	d.Free(mean)
	d.Free(invStd)
}

// normalise computes y = relu((x - mean) invStd weight + bias + residual) by views.
func (d *Device) normalise(y, x, residual device.Tensor, b *device.BatchNorm, mean, invStd device.Tensor, views int) {
	c, rows := x.Channels(), x.Rows()/views
	name := "batch_norm_apply"
	if residual.Exists() {
		name = "batch_norm_residual_apply"
	}
	kernel, width := d.wide(name, c)
	at := newBlocks(rows, c, views, width, mapRows)
	d.launch(kernel, at.grid, at.block, size(x)+size(y)+size(residual), y, x, residual, b.Weight, b.Bias, mean, invStd, b.ReLU, rows, at.chunk, c)
}

// BatchNormBackward implements device.Device.
func (d *Device) BatchNormBackward(dx, dy, x, y device.Tensor, b *device.BatchNorm) {
	c, views := x.Channels(), b.Views
	rows := x.Rows() / views
	if rows == 0 {
		return
	}
	// Without a residual, what passes the ReLU is found again from x: y is not read,
	// and dy not written, unless it is asked for.
	bytes := size(dy) + size(x)
	sums, apply := "batch_norm_backward_sums", "batch_norm_backward_apply"
	switch {
	case b.ReLU && (b.Residual || dx.Memory != dy.Memory):
		sums += "_by_y"
		bytes += size(dy) + size(y)
	case b.ReLU:
		sums, apply = sums+"_by_x", apply+"_by_x"
	}
	kernel, width := d.wide(sums, c)
	at := newBlocks(rows, c, views, width, sumRows)
	partial := d.doubles(views * at.chunks * 2 * c)
	d.launch(kernel, at.grid, at.block, bytes, partial, dy, x, y, b.Weight, b.Bias, b.SavedMean, b.SavedInvStd, rows, at.chunk, c)
	k := d.Alloc(views, 3, c)
	d.launchSums("batch_norm_gradients", c, size(partial), partial, rows, at.chunks, views, c, b.Weight, b.SavedInvStd, b.WeightGrad, b.BiasGrad, k)
	kernel, width = d.wide(apply, c)
	at = newBlocks(rows, c, views, width, mapRows)
	d.launch(kernel, at.grid, at.block, size(dx)+size(dy)+size(x), dx, dy, x, b.Weight, b.Bias, b.SavedMean, b.SavedInvStd, k, rows, at.chunk, c)
	d.Free(partial)
	d.Free(k)
}

// MaxPool implements device.Device.
func (d *Device) MaxPool(y, x device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	kernel, width := d.wide("max_pool", g.Channels)
	d.launchPacks(kernel, y.Len()/width, size(x)+size(y), g.arguments(y, x, y.Len()/width)...)
}

// MaxPoolBackward implements device.Device. The place of a maximum is found
// again instead of being stored.
func (d *Device) MaxPoolBackward(dx, dy, x, y device.Tensor, c device.Convolution) {
	g := newWindow(dx, dy, c)
	kernel, width := d.wide("max_pool_backward", g.Channels)
	d.launchPacks(kernel, dx.Len()/width, size(dx)+size(dy)+size(x)+size(y), g.arguments(dx, dy, x, y, dx.Len()/width)...)
}

// AveragePool implements device.Device.
func (d *Device) AveragePool(y, x device.Tensor, c device.Convolution) {
	g := newWindow(x, y, c)
	d.launchFlat("average_pool", y.Len(), size(x)+size(y), g.arguments(y, x, y.Len())...)
}

// AveragePoolBackward implements device.Device.
func (d *Device) AveragePoolBackward(dx, dy device.Tensor, c device.Convolution) {
	g := newWindow(dx, dy, c)
	d.launchFlat("average_pool_backward", dx.Len(), size(dx)+size(dy), g.arguments(dx, dy, dx.Len())...)
}

// launchWarps launches a kernel with a warp for each of n rows.
func (d *Device) launchWarps(kernel string, n int, bytes int64, args ...any) {
	const warps = threads / 32
	d.launch(kernel, [3]int{(n + warps - 1) / warps, 1, 1}, [2]int{threads, 1}, bytes, args...)
}

// Normalize implements device.Device.
func (d *Device) Normalize(y, norms, x device.Tensor) {
	mustBe(norms.Len() == x.Rows() && y.Len() == x.Len(), "lengths %v of rows of %v", norms.Shape, x.Shape)
	d.launchWarps("normalize", x.Rows(), size(x)+size(y), y, norms, x, x.Rows(), x.Channels())
}

// NormalizeBackward implements device.Device.
func (d *Device) NormalizeBackward(dx, dy, y, norms device.Tensor) {
	d.launchWarps("normalize_backward", y.Rows(), size(dx)+size(dy)+size(y), dx, dy, y, norms, y.Rows(), y.Channels())
}

// maps are the N x HW x C feature maps of the pixel operations.
type maps struct{ images, cells, channels int }

func newMaps(t device.Tensor) maps {
	return maps{t.Shape[0], t.Shape[1] * t.Shape[2], t.Shape[3]}
}

// area is the number of values in an image's map.
func (m maps) area() int { return m.cells * m.channels }

// at is t as the matrices of images from first on.
func (m maps) at(t device.Tensor, first int) cublas.Matrix {
	return matrix(t, first*m.area(), m.channels, m.area())
}

// square is the same for N x HW x HW values.
func (m maps) square(t device.Tensor, first int) cublas.Matrix {
	return matrix(t, first*m.cells*m.cells, m.cells, m.cells*m.cells)
}

// products computes c = a b' of each image's maps: N x HW x HW. With a shift,
// image i has the b of image (i + shift) mod N.
func (d *Device) products(m maps, c, a, b device.Tensor, shift int) {
	shifted(m.images, shift, func(first, other, count int) {
		d.gemm("gemm pixels", false, true, m.cells, m.cells, m.channels, m.at(a, first), m.at(b, other), false, m.square(c, first), count)
	})
}

// times computes c = a b, or a' b, of N x HW x HW values a and maps b, or adds
// it to c. The shift is as in products.
func (d *Device) times(m maps, c, a, b device.Tensor, transposed, accumulate bool, shift int) {
	shifted(m.images, shift, func(first, other, count int) {
		d.gemm("gemm pixels", transposed, false, m.cells, m.channels, m.cells, m.square(a, first), m.at(b, other), accumulate, m.at(c, first), count)
	})
}

// shifted calls visit for the runs of images from first on whose partners, (i +
// shift) mod n, are those from other on.
func shifted(n, shift int, visit func(first, other, count int)) {
	if n == 0 {
		return
	}
	shift %= n
	visit(0, shift, n-shift)
	if shift > 0 {
		visit(n-shift, 0, shift)
	}
}

// Propagate implements device.Device.
func (d *Device) Propagate(y, cosines, u, g device.Tensor, p device.Propagation) {
	m := newMaps(u)
	mustBe(cosines.Len() == m.images*m.cells*m.cells && y.Len() == u.Len() && g.Len() == u.Len(), "propagation of %v to %v", u.Shape, y.Shape)
	d.products(m, cosines, u, u, 0)
	s := d.AllocActivation(cosines.Len())
	d.launchFlat("similarity", s.Len(), size(s)+size(cosines), s, cosines, s.Len(), float32(p.Gamma), float32(p.Clamp))
	g, done := d.factor(g, g.Channels(), g.Channels())
	d.times(m, y, s, g, false, false, 0)
	done()
	d.Free(s)
}

// PropagateBackward implements device.Device. With s the similarities of an
// image's cells and c their cosines: dg = s' dy, dc = (dy g') ds/dc, and u
// stands on both sides of c = u u', so du = (dc + dc') u.
func (d *Device) PropagateBackward(du, dg, dy, cosines, u, g device.Tensor, p device.Propagation) {
	m := newMaps(u)
	s, dc := d.AllocActivation(cosines.Len()), d.Alloc(cosines.Len())
	g, done := d.factor(g, g.Channels(), g.Channels())
	d.products(m, dc, dy, g, 0)
	done()
	d.launchFlat("similarity_backward", s.Len(), size(s)+2*size(dc)+size(cosines), s, dc, cosines, s.Len(), float32(p.Gamma), float32(p.Clamp))
	d.times(m, dg, s, dy, true, false, 0)
	d.times(m, du, dc, u, false, false, 0)
	d.times(m, du, dc, u, true, true, 0)
	d.Free(s)
	d.Free(dc)
}

// pixelLoss computes cosines, lets a kernel turn them into losses and
// gradients, and multiplies those by the keys.
func (d *Device) pixelLoss(kernel string, losses, dq, q, k device.Tensor, match device.Matching, more ...any) {
	m := newMaps(q)
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == m.images && match.CoordQ.Len() == 4*m.images && match.CoordK.Len() == 4*m.images,
		"loss of queries %v and keys %v", q.Shape, k.Shape)
	cosines := d.Alloc(m.images, m.cells, m.cells)
	d.products(m, cosines, q, k, match.KeyShift)
	args := []any{losses, cosines, match.CoordQ, match.CoordK, m.images, q.Shape[1], q.Shape[2], match.KeyShift, match.Threshold, match.Scale}
	d.launch(kernel, [3]int{m.images, 1, 1}, [2]int{threads, 1}, 2*size(cosines), append(args, more...)...)
	d.times(m, dq, cosines, k, false, false, match.KeyShift)
	d.Free(cosines)
}

// PixProLoss implements device.FusedLosses.
func (d *Device) PixProLoss(losses, dq, q, k device.Tensor, m device.Matching) {
	d.pixelLoss("pixpro_loss", losses, dq, q, k, m)
}

// PixContrastLoss implements device.FusedLosses.
func (d *Device) PixContrastLoss(losses, dq, q, k device.Tensor, m device.Matching, tau float64) {
	d.pixelLoss("pixcontrast_loss", losses, dq, q, k, m, tau)
}

// SimilarityLoss implements device.FusedLosses.
func (d *Device) SimilarityLoss(losses, dq, q, k device.Tensor, m device.Matching) {
	images, c := q.Rows(), q.Channels()
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == images, "instance loss of %v and %v", q.Shape, k.Shape)
	d.launchWarps("similarity_loss", images, size(q)+size(k)+size(dq), losses, dq, q, k, images, c, m.KeyShift, m.Scale)
}

// InfoNCELoss implements device.FusedLosses: the keys of a view's images are those
// of the other view.
func (d *Device) InfoNCELoss(losses, dq, q, k device.Tensor, m device.Matching, tau float64) {
	images, c, half := q.Rows(), q.Channels(), m.KeyShift
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == images && images == 2*half, "contrast of %v and %v", q.Shape, k.Shape)
	cosines := d.Alloc(images, half)
	view := func(t device.Tensor, i, columns int) cublas.Matrix { return matrix(t, i*half*columns, columns, 0) }
	for i := range 2 {
		d.gemm("gemm instances", false, true, half, half, c, view(q, i, c), view(k, 1-i, c), false, view(cosines, i, half), 1)
	}
	d.launch("info_nce_loss", [3]int{images, 1, 1}, [2]int{threads, 1}, 2*size(cosines), losses, cosines, half, m.Scale, tau)
	for i := range 2 {
		d.gemm("gemm instances", false, false, half, c, half, view(cosines, i, half), view(k, 1-i, c), false, view(dq, i, c), 1)
	}
	d.Free(cosines)
}

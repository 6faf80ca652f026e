package augment

import (
	"encoding/binary"
	"fmt"
	"math"
)

// weightBits is the fixed-point precision of Pillow's resampling weights
// (PRECISION_BITS): the largest that keeps 255 times a sum of weights in 32
// bits with two bits to spare.
const weightBits = 32 - 8 - 2

// ResizedCrop resizes a crop of src to the size of dst: bilinear with
// antialiasing, as Pillow's Image.resize of the cropped image, which does not
// see beyond the crop. It panics if the crop is not inside the image.
func ResizedCrop(dst Planes, src Image, crop Rect, s *Scratch) {
	resizedCrop(dst, src, crop, false, &s.resize)
}

// resizeScratch holds what resizing reuses from view to view.
type resizeScratch struct {
	columns, rows kernel
	strip         []uint8 // 3 x rows of the crop in use x width of the view
	row           []uint8 // a row of the image with padding behind it
}

// resizedCrop runs the horizontal pass over those rows of the crop that the
// vertical pass will read, into 8-bit planes, then the vertical pass. A flip
// costs nothing: it reverses the order of the output columns.
func resizedCrop(dst Planes, src Image, crop Rect, flip bool, s *resizeScratch) {
	src.check()
	dst.check()
	if !crop.inside(src.Width, src.Height) {
		panic(fmt.Sprintf("augment: crop %+v is not inside the image of %d x %d pixels", crop, src.Width, src.Height))
	}
	s.columns.compute(crop.Width, dst.Width, flip)
	s.columns.prepareColumns()
	s.rows.compute(crop.Height, dst.Height, false)
	s.rows.prepareRows()

	first, end := s.rows.span()
	width := dst.Width
	plane := width * (end - first)
	s.strip = grow(s.strip, 3*plane)
	for y := first; y < end; y++ {
		i := 3 * ((crop.Top+y)*src.Width + crop.Left)
		at := (y - first) * width
		row := src.Pix[i:]
		if len(row) < 3*crop.Width+rowPadding {
			s.row = grow(s.row, 3*crop.Width+rowPadding)
			copy(s.row, row[:3*crop.Width])
			row = s.row
		}
		s.columns.resizeRow(
			s.strip[at:at+width], s.strip[plane+at:plane+at+width], s.strip[2*plane+at:2*plane+at+width],
			row[:3*crop.Width+rowPadding])
	}
	for c := range 3 {
		strip := s.strip[c*plane : (c+1)*plane]
		for y := range dst.Height {
			at := (c*dst.Height + y) * width
			s.rows.combineRows(dst.Pix[at:at+width], strip[(s.rows.first[y]-first)*width:], y)
		}
	}
}

// kernel holds the weights of one axis: output i is the sum over j below taps
// of weights[i*taps+j] times input first[i]+j, all of which exist.
type kernel struct {
	taps    int
	first   []int
	weights []uint32
	exact   []float64 // the weights of one output before rounding
	vectors resizeVectors
}

// compute fills the kernel for resizing in pixels to out pixels: a triangle
// filter as wide as the scale, but no narrower than one pixel to each side,
// normalised to a sum of one and rounded to weightBits. The conversions keep
// compilers from fusing, which would round differently from Pillow.
func (k *kernel) compute(in, out int, reversed bool) {
	scale := float64(in) / float64(out)
	support := max(scale, 1)
	perPixel := 1 / support
	stride := 2*int(math.Ceil(support)) + 1
	k.taps = 1
	k.first = grow(k.first, out)
	k.weights = grow(k.weights, out*stride)
	clear(k.weights)
	for i := range out {
		o := i
		if reversed {
			o = out - 1 - i
		}
		centre := float64((float64(o) + 0.5) * scale)
		lo := max(int(centre-support+0.5), 0)
		hi := min(int(centre+support+0.5), in)

		k.exact = k.exact[:0]
		sum := 0.0
		for x := lo; x < hi; x++ {
			w := max(1-math.Abs(float64((float64(x)-centre+0.5)*perPixel)), 0)
			k.exact = append(k.exact, w)
			sum += w
		}
		weights := k.weights[i*stride:]
		n := 0
		for _, w := range k.exact {
			if sum != 0 {
				w /= sum
			}
			weights[n] = uint32(0.5 + float64(w*(1<<weightBits)))
			if n == 0 && weights[0] == 0 {
				lo++ // a weight of zero changes nothing
				continue
			}
			n++
			if weights[n-1] > 0 {
				k.taps = max(k.taps, n)
			}
		}
		k.first[i] = lo
	}
	k.pack(in, stride)
}

// pack moves the weights from stride to taps places an output. Outputs whose
// taps would go beyond the input start earlier, with weights of zero.
func (k *kernel) pack(in, stride int) {
	for i, first := range k.first {
		early := max(first+k.taps-in, 0)
		k.first[i] = first - early
		to := k.weights[i*k.taps : (i+1)*k.taps]
		copy(to[early:], k.weights[i*stride:])
		clear(to[:early])
	}
}

// span returns the range of inputs that the outputs read.
func (k *kernel) span() (first, end int) {
	first = k.first[0]
	for _, f := range k.first {
		first, end = min(first, f), max(end, f+k.taps)
	}
	return first, end
}

// pixel rounds a weighted sum. Rounded weights can add up to a little more
// than one, so the result is limited.
func pixel(sum uint32) uint8 {
	return uint8(min((sum+1<<(weightBits-1))>>weightBits, 255))
}

// rowPadding is how many bytes a row of the image has behind it, so that vector
// code can read too far.
const rowPadding = 16

// resizeRow makes one row of each plane from a row of interleaved pixels and its
// padding.
func (k *kernel) resizeRow(r, g, b, row []uint8) {
	done := k.resizeRowVector(r, g, b, row)
	n := len(r)
	r, g, b = r[done:], g[done:n], b[done:n]
	first, weights := k.first[done:n], k.weights[done*k.taps:]
	switch k.taps {
	case 2:
		for x, f := range first {
			p, w := row[3*f:][:6], weights[2*x:][:2]
			w0, w1 := w[0], w[1]
			r[x] = pixel(w0*uint32(p[0]) + w1*uint32(p[3]))
			g[x] = pixel(w0*uint32(p[1]) + w1*uint32(p[4]))
			b[x] = pixel(w0*uint32(p[2]) + w1*uint32(p[5]))
		}
	case 3:
		for x, f := range first {
			p, w := row[3*f:][:9], weights[3*x:][:3]
			w0, w1, w2 := w[0], w[1], w[2]
			r[x] = pixel(w0*uint32(p[0]) + w1*uint32(p[3]) + w2*uint32(p[6]))
			g[x] = pixel(w0*uint32(p[1]) + w1*uint32(p[4]) + w2*uint32(p[7]))
			b[x] = pixel(w0*uint32(p[2]) + w1*uint32(p[5]) + w2*uint32(p[8]))
		}
	default:
		for x, f := range first {
			p, w := row[3*f:][:3*k.taps], weights[x*k.taps:][:k.taps]
			var sr, sg, sb uint32
			for len(w) >= 4 && len(p) >= 12 {
				w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
				sr += w0*uint32(p[0]) + w1*uint32(p[3]) + w2*uint32(p[6]) + w3*uint32(p[9])
				sg += w0*uint32(p[1]) + w1*uint32(p[4]) + w2*uint32(p[7]) + w3*uint32(p[10])
				sb += w0*uint32(p[2]) + w1*uint32(p[5]) + w2*uint32(p[8]) + w3*uint32(p[11])
				p, w = p[12:], w[4:]
			}
			for len(w) >= 1 && len(p) >= 3 {
				sr += w[0] * uint32(p[0])
				sg += w[0] * uint32(p[1])
				sb += w[0] * uint32(p[2])
				p, w = p[3:], w[1:]
			}
			r[x], g[x], b[x] = pixel(sr), pixel(sg), pixel(sb)
		}
	}
}

// combineRows sets dst to the weighted sum of the rows that output y reads;
// the first of them is at the start of strip.
func (k *kernel) combineRows(dst, strip []uint8, y int) {
	weights := k.weights[y*k.taps : (y+1)*k.taps]
	if k.taps == 1 && weights[0] == 1<<weightBits {
		copy(dst, strip)
		return
	}
	width := len(dst)
	x := k.combineRowsVector(dst, strip, y)
	if x == 0 && k.taps <= maxWordTaps {
		x = width &^ 7
		combineWords(dst[:x], strip, width, weights)
	}
	for ; x < width; x++ {
		var sum uint32
		for j, w := range weights {
			sum += w * uint32(strip[j*width+x])
		}
		dst[x] = pixel(sum)
	}
}

// maxWordTaps is how many rounded weights cannot add up to so much more than
// one, half a unit each, that 255 of them would round to 256.
const maxWordTaps = (1 << (weightBits - 1)) / 255

// combineWords is combineRows for a multiple of eight pixels: a word holds the
// sums of two pixels, so that one multiplication serves both.
func combineWords(dst, strip []uint8, width int, weights []uint32) {
	const (
		lanes = 0x000000FF000000FF
		half  = 1<<(weightBits-1) | 1<<(weightBits-1)<<32
	)
	for x := 0; x+8 <= len(dst); x += 8 {
		var s04, s15, s26, s37 uint64 = half, half, half, half
		at := x
		for _, w := range weights {
			v := binary.LittleEndian.Uint64(strip[at:])
			s04 += v & lanes * uint64(w)
			s15 += v >> 8 & lanes * uint64(w)
			s26 += v >> 16 & lanes * uint64(w)
			s37 += v >> 24 & lanes * uint64(w)
			at += width
		}
		binary.LittleEndian.PutUint64(dst[x:],
			s04>>weightBits&lanes|s15>>weightBits&lanes<<8|s26>>weightBits&lanes<<16|s37>>weightBits&lanes<<24)
	}
}

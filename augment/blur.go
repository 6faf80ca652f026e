package augment

import "math"

// blurScratch holds what blurring reuses from view to view.
type blurScratch struct {
	plane []uint8
	rows  [2][]uint8 // padded at both ends
	sums  []uint32   // one a column
}

// boxFilter is an extended box: 2*radius+1 pixels of full weight and one of
// less at each end, in 24-bit fixed point. Beyond the image, the pixels at its
// border repeat.
type boxFilter struct {
	radius    int
	full, end uint32
}

// boxPasses is how many box filters stand for one Gaussian.
const boxPasses = 3

// newBoxFilter returns the box that gives, applied boxPasses times, the
// variance of a Gaussian: Gwosdek, Grewenig, Bruhn and Weickert, "Theoretical
// foundations of Gaussian convolution by extended box filtering" (SSVM 2011),
// equations 7, 11 and 14. Precision and roundings are those of Pillow; the
// conversions keep compilers from fusing.
func newBoxFilter(sigma float64) boxFilter {
	s := float32(sigma)
	variance := float32(s*s) / boxPasses
	length := float32(math.Sqrt(float64(12*float64(variance)) + 1))
	l := float32(math.Floor((float64(length) - 1) / 2))
	fraction := float32(float32(2*l)+1) * float32(float32(l*float32(l+1))-float32(3*variance))
	fraction /= float32(6 * float32(variance-float32((l+1)*(l+1))))
	width := l + float32(fraction)

	f := boxFilter{radius: int(width)}
	f.full = uint32(float32(1<<24) / float32(float32(width*2)+1))
	f.end = (1<<24 - uint32(2*f.radius+1)*f.full) / 2
	return f
}

// apply weighs a box's sum and the two pixels at its ends.
func (f boxFilter) apply(sum uint32, before, after uint8) uint8 {
	return uint8((sum*f.full + (uint32(before)+uint32(after))*f.end + 1<<23) >> 24)
}

// GaussianBlur approximates a Gaussian of the given standard deviation in
// pixels by three extended box filters along the rows and three along the
// columns, each rounded to 8 bits, as Pillow does. It panics if sigma is not
// from 0 to MaxBlurSigma.
func (p Planes) GaussianBlur(sigma float64, s *Scratch) {
	p.check()
	if !(0 <= sigma && sigma <= MaxBlurSigma) {
		panic("augment: blur sigma out of range")
	}
	f := newBoxFilter(sigma)
	n := p.Width * p.Height
	b := &s.blur
	b.plane = grow(b.plane, n)
	for i := 0; i < len(p.Pix); i += n {
		plane := p.Pix[i : i+n]
		if f.suitsVector(p.Width) {
			f.blurVector(plane, p.Width, b)
			continue
		}
		f.blurRows(b.plane, plane, p.Width, b)
		f.blurColumns(plane, b.plane, p.Width, b)
		f.blurColumns(b.plane, plane, p.Width, b)
		f.blurColumns(plane, b.plane, p.Width, b)
	}
}

// blurRows runs all passes over each row of src and writes dst.
func (f boxFilter) blurRows(dst, src []uint8, width int, b *blurScratch) {
	// A reach of width is enough: beyond, all pixels are alike.
	reach := min(f.radius+1, width)
	for i := range b.rows {
		b.rows[i] = grow(b.rows[i], width+2*reach)
	}
	in, out := b.rows[0], b.rows[1]
	for y := 0; y < len(src); y += width {
		copy(in[reach:], src[y:y+width])
		for range boxPasses {
			pad(in, reach)
			f.blurRow(out[reach:reach+width], in, reach)
			in, out = out, in
		}
		copy(dst[y:y+width], in[reach:])
	}
}

// pad repeats the pixels at the ends of a row over n pixels on both sides.
func pad(row []uint8, n int) {
	end := len(row) - n
	for i := range n {
		row[i] = row[n]
		row[end+i] = row[end-1]
	}
}

// blurRow filters a row that has reach pixels of padding at both ends.
func (f boxFilter) blurRow(dst, padded []uint8, reach int) {
	n := len(dst)
	before := padded[:n]
	after := padded[2*reach:][:n]
	inner := min(f.radius, reach)
	last := padded[reach+inner:][:n] // the box's last pixel
	// The box around the pixel to the left of the row.
	sum := uint32(f.radius+1)*uint32(before[0]) + uint32(f.radius-inner)*uint32(after[n-1])
	for _, v := range padded[reach : reach+inner] {
		sum += uint32(v)
	}
	for x := range dst {
		sum += uint32(last[x]) - uint32(before[x])
		dst[x] = f.apply(sum, before[x], after[x])
	}
}

// blurColumns runs one pass over the columns of src and writes dst.
func (f boxFilter) blurColumns(dst, src []uint8, width int, b *blurScratch) {
	height := len(src) / width
	row := func(y int) []uint8 {
		y = min(max(y, 0), height-1)
		return src[y*width : (y+1)*width]
	}
	// The boxes around the pixels above the image.
	b.sums = grow(b.sums, width)
	sums := b.sums
	inner := min(f.radius, height)
	first, end := row(0), row(height-1)
	for x := range sums {
		sums[x] = uint32(f.radius+1)*uint32(first[x]) + uint32(f.radius-inner)*uint32(end[x])
	}
	for y := range inner {
		for x, v := range row(y) {
			sums[x] += uint32(v)
		}
	}
	for y := range height {
		before, last, after := row(y-f.radius-1), row(y+f.radius), row(y+f.radius+1)
		out := dst[y*width : (y+1)*width]
		for x, sum := range sums {
			sum += uint32(last[x]) - uint32(before[x])
			sums[x] = sum
			out[x] = f.apply(sum, before[x], after[x])
		}
	}
}

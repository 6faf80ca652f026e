//go:build goexperiment.simd && amd64

package augment

import (
	"simd/archsimd"
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// maxVectorRadius is the largest box whose pixels are summed one by one.
const maxVectorRadius = 7

// boxPixels are the places of a box's pixels: the one before it, its own, the
// one behind it.
type boxPixels [2*maxVectorRadius + 3]unsafe.Pointer

// boxWeights are a box's weights for pairs of 16-bit integers, the sum of its
// pixels and that of its ends, split as in the resize.
type boxWeights struct{ low, high [8]uint32 }

func (f boxFilter) weights() boxWeights {
	const low = 1<<lowBits - 1
	return boxWeights{longs(f.full&low | f.end&low<<16), longs(f.full>>lowBits | f.end>>lowBits<<16)}
}

// suitsVector reports whether blurVector can do the planes of a view.
func (f boxFilter) suitsVector(width int) bool {
	return level >= cpu.AVX2 && f.radius <= maxVectorRadius && width >= 32
}

// blurVector runs all passes over a plane.
func (f boxFilter) blurVector(plane []uint8, width int, b *blurScratch) {
	b.plane = grow(b.plane, len(plane))
	weights := f.weights()
	f.blurRowsVector(b.plane, plane, width, &weights, b)
	f.blurColumnsVector(plane, b.plane, width, &weights)
	f.blurColumnsVector(b.plane, plane, width, &weights)
	f.blurColumnsVector(plane, b.plane, width, &weights)
	archsimd.ClearAVXUpperBits()
}

// blurRowsVector runs all passes over each row of src and writes dst.
func (f boxFilter) blurRowsVector(dst, src []uint8, width int, weights *boxWeights, b *blurScratch) {
	reach := f.radius + 1
	whole := (width + 31) &^ 31 // the kernel computes some pixels too many
	for i := range b.rows {
		b.rows[i] = grow(b.rows[i], whole+2*reach)
	}
	in, out := b.rows[0], b.rows[1]
	for y := 0; y < len(src); y += width {
		copy(in[reach:], src[y:y+width])
		for range boxPasses {
			pad(in[:width+2*reach], reach)
			var pixels boxPixels
			for i := range 2*f.radius + 3 {
				pixels[i] = unsafe.Pointer(&in[i])
			}
			f.box(unsafe.Pointer(&out[reach]), weights, &pixels, whole)
			in, out = out, in
		}
		copy(dst[y:y+width], in[reach:])
	}
}

// blurColumnsVector runs one pass over the columns of src and writes dst.
func (f boxFilter) blurColumnsVector(dst, src []uint8, width int, weights *boxWeights) {
	height := len(src) / width
	for y := range height {
		var pixels boxPixels
		for i := range 2*f.radius + 3 {
			row := min(max(y-f.radius-1+i, 0), height-1)
			pixels[i] = unsafe.Pointer(&src[row*width : (row+1)*width][0])
		}
		f.box(unsafe.Pointer(&dst[y*width : (y+1)*width][0]), weights, &pixels, width)
	}
}

// box is boxFilter.apply for n pixels in a row, n at least 32, of which it may
// do some twice: dst must not overlap the pixels. Pixel x of the box's part i is
// pixels[i][x]:
//
//	sum = pixels[1][x] + … + pixels[2*radius+1][x]
//	dst[x] = (sum*full + (pixels[0][x]+pixels[2*radius+2][x])*end + 1<<23) >> 24
func (f boxFilter) box(dst unsafe.Pointer, weights *boxWeights, pixels *boxPixels, n int) {
	weightLow, weightHigh := archsimd.LoadUint32x8(&weights.low).AsInt16x16(), archsimd.LoadUint32x8(&weights.high).AsInt16x16()
	even := archsimd.LoadUint16x16(&wordsLow8)
	half := archsimd.LoadUint32x8(&longsHalf24).AsInt32x8()
	behind := 2*f.radius + 2
	for x := 0; ; {
		first := archsimd.LoadUint8x32((*[32]uint8)(unsafe.Add(pixels[0], x))).AsUint16x16()
		last := archsimd.LoadUint8x32((*[32]uint8)(unsafe.Add(pixels[behind], x))).AsUint16x16()
		ends0 := first.And(even).Add(last.And(even))
		ends1 := rightByte(first).Add(rightByte(last))
		var sum0, sum1 archsimd.Uint16x16
		for i := 1; i < behind; i++ {
			v := archsimd.LoadUint8x32((*[32]uint8)(unsafe.Add(pixels[i], x))).AsUint16x16()
			sum0, sum1 = sum0.Add(v.And(even)), sum1.Add(rightByte(v))
		}
		p0, p1 := sum0.InterleaveLoGrouped(ends0).AsInt16x16(), sum0.InterleaveHiGrouped(ends0).AsInt16x16()
		p2, p3 := sum1.InterleaveLoGrouped(ends1).AsInt16x16(), sum1.InterleaveHiGrouped(ends1).AsInt16x16()
		v0 := p0.DotProductPairs(weightLow).Add(half).Add(left(p0.DotProductPairs(weightHigh), &longsLowBits))
		v1 := p1.DotProductPairs(weightLow).Add(half).Add(left(p1.DotProductPairs(weightHigh), &longsLowBits))
		v2 := p2.DotProductPairs(weightLow).Add(half).Add(left(p2.DotProductPairs(weightHigh), &longsLowBits))
		v3 := p3.DotProductPairs(weightLow).Add(half).Add(left(p3.DotProductPairs(weightHigh), &longsLowBits))
		r0 := pack(right(v0.AsUint32x8(), &longs24).AsInt32x8(), right(v1.AsUint32x8(), &longs24).AsInt32x8())
		r1 := pack(right(v2.AsUint32x8(), &longs24).AsInt32x8(), right(v3.AsUint32x8(), &longs24).AsInt32x8())
		r0.Or(leftByte(r1)).AsUint8x32().Store((*[32]uint8)(unsafe.Add(dst, x)))
		if x+32 == n {
			break
		}
		x = min(x+32, n-32)
	}
}

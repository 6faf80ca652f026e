//go:build goexperiment.simd && amd64

package augment

import (
	"simd/archsimd"
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// resizeVectors holds a kernel's weights as the vector code wants them. A
// weight of 22 bits is split into 15 low bits and the rest, so that the
// instruction that multiplies 16-bit integers and adds neighbouring products
// serves two taps; sums of both parts are put together at the end.
type resizeVectors struct {
	halves int      // pairs of taps, 0 if the vector code cannot be used
	pairs  []uint32 // halves for each output: low parts of two taps, the first in the lower 16 bits, then high parts
	lanes  []int16  // for columns: see prepareColumns
}

const (
	lowBits = 15
	// maxVectorTaps keeps sums of low parts in 32 bits: 128 * 255 * 32767 < 2^31.
	maxVectorTaps = 128
	// pairsPadding lets a vector be loaded from the last pair.
	pairsPadding = 6
)

// prepareRows makes the weights of combineRowsVector.
func (k *kernel) prepareRows() {
	v := &k.vectors
	v.halves = 0
	if level < cpu.AVX2 || k.taps > maxVectorTaps {
		return
	}
	v.halves = (k.taps + 1) / 2
	v.pairs = grow(v.pairs, 2*v.halves*len(k.first)+pairsPadding)
	for i := range k.first {
		weights := k.weights[i*k.taps : (i+1)*k.taps]
		for h := range v.halves {
			w0, w1 := weights[2*h], uint32(0)
			if 2*h+1 < k.taps {
				w1 = weights[2*h+1]
			}
			const low = 1<<lowBits - 1
			at := 2 * (i*v.halves + h)
			v.pairs[at], v.pairs[at+1] = w0&low|w1&low<<16, w0>>lowBits|w1>>lowBits<<16
		}
	}
}

// prepareColumns also spreads them over vectors: those of outputs x and x+4 for
// the four 32-bit sums (R, G, B and nothing) of each, low parts and high parts,
// in the order in which resizeRowVector takes them.
func (k *kernel) prepareColumns() {
	k.prepareRows()
	v := &k.vectors
	groups := len(k.first) / 8
	v.lanes = grow(v.lanes, groups*4*v.halves*32)
	at := 0
	for x := 0; x+8 <= len(k.first) && v.halves > 0; x += 8 {
		for j := range 4 {
			for h := range v.halves {
				to := v.lanes[at : at+32]
				for side := range 2 {
					p := v.pairs[2*((x+j+4*side)*v.halves+h):]
					low, high := p[0], p[1]
					for lane := range 4 {
						i := 8*side + 2*lane
						to[i], to[i+1] = int16(low), int16(low>>16)
						to[16+i], to[17+i] = int16(high), int16(high>>16)
					}
				}
				at += 32
			}
		}
	}
}

// pairShuffle makes 16-bit pairs of two RGB pixels: r0 r1, g0 g1, b0 b1, 0 0.
var pairShuffle = [32]int8{
	0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
	0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
}

// nextPairShuffle makes those of the next two.
var nextPairShuffle = [32]int8{
	6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
	6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
}

// halvesToPlanes brings the R of both halves of a vector together, then the G, the
// B.
var halvesToPlanes = [8]uint32{0, 4, 1, 5, 2, 6, 3, 7}

// resizeRowVector is resizeRow for the first multiple of eight outputs. row has
// rowPadding bytes more than the crop.
func (k *kernel) resizeRowVector(r, g, b, row []uint8) int {
	halves := k.vectors.halves
	n := len(r) &^ 7
	if halves == 0 || n == 0 {
		return 0
	}
	first, lanes := k.first[:n], unsafe.Pointer(unsafe.SliceData(k.vectors.lanes))
	g, b = g[:len(r)], b[:len(r)]
	src := unsafe.Pointer(unsafe.SliceData(row))
	shuffle, shuffleNext := archsimd.LoadInt8x32(&pairShuffle), archsimd.LoadInt8x32(&nextPairShuffle)
	half := archsimd.LoadUint32x8(&longsHalf22).AsInt32x8()
	var zero archsimd.Int32x8
	order := archsimd.LoadUint32x8(&halvesToPlanes)
	lane := 0 // bytes of lanes that are done; a pointer behind their end would not be valid
	for x := 0; x < n; x += 8 {
		starts := first[x : x+8]
		var all archsimd.Uint32x8
		for j := range 4 {
			at0, at1 := 3*starts[j], 3*starts[j+4]
			low, high := half, zero
			for h := halves; h > 0; h -= 2 {
				// 16 bytes hold four taps and a bit.
				p0, p1 := unsafe.Add(src, at0), unsafe.Add(src, at1)
				var v archsimd.Uint8x32
				v = v.SetLo(archsimd.LoadUint8x16((*[16]uint8)(p0))).SetHi(archsimd.LoadUint8x16((*[16]uint8)(p1)))
				words := v.PermuteOrZeroGrouped(shuffle).AsInt16x16()
				low = low.Add(words.DotProductPairs(archsimd.LoadInt16x16((*[16]int16)(unsafe.Add(lanes, lane)))))
				high = high.Add(words.DotProductPairs(archsimd.LoadInt16x16((*[16]int16)(unsafe.Add(lanes, lane+32)))))
				lane += 64
				if h == 1 {
					break
				}
				words = v.PermuteOrZeroGrouped(shuffleNext).AsInt16x16()
				low = low.Add(words.DotProductPairs(archsimd.LoadInt16x16((*[16]int16)(unsafe.Add(lanes, lane)))))
				high = high.Add(words.DotProductPairs(archsimd.LoadInt16x16((*[16]int16)(unsafe.Add(lanes, lane+32)))))
				at0, at1, lane = at0+12, at1+12, lane+64
			}
			sum := right(low.Add(left(high, &longsLowBits)).AsUint32x8(), &longsWeightBits)
			all = right(all, &longs8).Or(sum.ShiftLeft(archsimd.LoadUint32x8(&longs24)))
		}
		// Each half of all has four outputs' R, G, B and zeros.
		bytes := all.Permute(order).AsUint64x4()
		lo := bytes.GetLo()
		*(*uint64)(unsafe.Pointer(&r[x])) = lo.GetElem(0)
		*(*uint64)(unsafe.Pointer(&g[x])) = lo.GetElem(1)
		*(*uint64)(unsafe.Pointer(&b[x])) = bytes.GetHi().GetElem(0)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

// combineRowsVector is combineRows for rows of at least 32 pixels, the last of
// which it may do twice.
func (k *kernel) combineRowsVector(dst, strip []uint8, y int) int {
	halves, width := k.vectors.halves, len(dst)
	if halves == 0 || width < 32 {
		return 0
	}
	strip = strip[:k.taps*width]
	pairs := k.vectors.pairs[2*y*halves : 2*(y+1)*halves+pairsPadding]
	even := archsimd.LoadUint16x16(&wordsLow8)
	var firstOfAll archsimd.Uint32x8
	secondOfAll := archsimd.LoadUint32x8(&longs1)
	half := archsimd.LoadUint32x8(&longsHalf22).AsInt32x8()
	var zero archsimd.Int32x8
	for x := 0; ; {
		l0, l1, l2, l3 := half, half, half, half
		h0, h1, h2, h3 := zero, zero, zero, zero
		at := x
		for h := range halves {
			next := at + width
			if 2*h+1 == k.taps {
				next = at // there is no such row, and its weight is zero
			}
			a := archsimd.LoadUint8x32((*[32]uint8)(strip[at:])).AsUint16x16()
			b := archsimd.LoadUint8x32((*[32]uint8)(strip[next:])).AsUint16x16()
			a0, b0 := a.And(even), b.And(even)
			a1, b1 := rightByte(a), rightByte(b)
			w := archsimd.LoadUint32x8((*[8]uint32)(pairs[2*h:]))
			low, high := w.Permute(firstOfAll).AsInt16x16(), w.Permute(secondOfAll).AsInt16x16()
			p := a0.InterleaveLoGrouped(b0).AsInt16x16()
			l0, h0 = l0.Add(p.DotProductPairs(low)), h0.Add(p.DotProductPairs(high))
			p = a0.InterleaveHiGrouped(b0).AsInt16x16()
			l1, h1 = l1.Add(p.DotProductPairs(low)), h1.Add(p.DotProductPairs(high))
			p = a1.InterleaveLoGrouped(b1).AsInt16x16()
			l2, h2 = l2.Add(p.DotProductPairs(low)), h2.Add(p.DotProductPairs(high))
			p = a1.InterleaveHiGrouped(b1).AsInt16x16()
			l3, h3 = l3.Add(p.DotProductPairs(low)), h3.Add(p.DotProductPairs(high))
			at = next + width
		}
		v0 := pack(wholePart(l0, h0), wholePart(l1, h1))
		v1 := pack(wholePart(l2, h2), wholePart(l3, h3))
		v0.Or(leftByte(v1)).AsUint8x32().Store((*[32]uint8)(dst[x:]))
		if x+32 == width {
			break
		}
		x = min(x+32, width-32)
	}
	archsimd.ClearAVXUpperBits()
	return width
}

// wholePart puts the sums of low and high parts together and cuts the fraction.
func wholePart(low, high archsimd.Int32x8) archsimd.Int32x8 {
	return right(low.Add(left(high, &longsLowBits)).AsUint32x8(), &longsWeightBits).AsInt32x8()
}

// pack undoes an interleaving: 32-bit integers of 0 to 255 become 16-bit ones.
func pack(lo, hi archsimd.Int32x8) archsimd.Uint16x16 {
	return lo.SaturateToUint16ConcatGrouped(hi)
}

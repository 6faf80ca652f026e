//go:build goexperiment.simd && amd64

package augment

import (
	"simd/archsimd"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// load takes 32 samples as 16-bit integers, those at even and at odd places.
func load(p []uint8, at int) (even, odd archsimd.Uint16x16) {
	v := archsimd.LoadUint8x32((*[32]uint8)(p[at:])).AsUint16x16()
	return v.And(archsimd.LoadUint16x16(&wordsLow8)), rightByte(v)
}

// store is the inverse of load.
func store(p []uint8, at int, even, odd archsimd.Uint16x16) {
	even.Or(leftByte(odd)).AsUint8x32().Store((*[32]uint8)(p[at:]))
}

// lumas is luma of 16 pixels:
//
//	(19595*r + 38470*g + 7471*b + 1<<15) >> 16
//
// Weights multiply pairs of 16-bit samples, R with G and G with B. That of green
// does not fit 15 bits: each pair takes half.
func lumas(r, g, b archsimd.Uint16x16) archsimd.Uint16x16 {
	rg := archsimd.LoadUint32x8(&lumaRedGreen).AsInt16x16()
	gb := archsimd.LoadUint32x8(&lumaGreenBlue).AsInt16x16()
	half := archsimd.LoadUint32x8(&longsHalf16).AsInt32x8()
	lo := r.InterleaveLoGrouped(g).AsInt16x16().DotProductPairs(rg).Add(g.InterleaveLoGrouped(b).AsInt16x16().DotProductPairs(gb)).Add(half)
	hi := r.InterleaveHiGrouped(g).AsInt16x16().DotProductPairs(rg).Add(g.InterleaveHiGrouped(b).AsInt16x16().DotProductPairs(gb)).Add(half)
	return pack(right(lo.AsUint32x8(), &longs16).AsInt32x8(), right(hi.AsUint32x8(), &longs16).AsInt32x8())
}

// vectorLength is how many of the samples vectors can do. Kernels return before
// they touch a vector where it is none: the processor may not have them.
func vectorLength(p []uint8) int {
	if level < cpu.AVX2 {
		return 0
	}
	return len(p) &^ 31
}

// sumLumaVector sums the luma of the first pixels.
func sumLumaVector(r, g, b []uint8) (n int, sum uint64) {
	n = vectorLength(r)
	if n == 0 {
		return 0, 0
	}
	var total archsimd.Uint64x4
	var zero archsimd.Uint8x32
	for i := 0; i < n; i += 32 {
		r0, r1 := load(r, i)
		g0, g1 := load(g, i)
		b0, b1 := load(b, i)
		l := lumas(r0, g0, b0).Or(leftByte(lumas(r1, g1, b1))).AsUint8x32()
		// Four sums of eight bytes, each in 64 bits.
		total = total.Add(l.SumAbsDiff(zero).AsUint64x4())
	}
	lo, hi := total.GetLo(), total.GetHi()
	sum = lo.GetElem(0) + lo.GetElem(1) + hi.GetElem(0) + hi.GetElem(1)
	archsimd.ClearAVXUpperBits()
	return n, sum
}

// grayscaleVector sets the first pixels of all planes to the luma.
func grayscaleVector(r, g, b []uint8) int {
	n := vectorLength(r)
	if n == 0 {
		return 0
	}
	for i := 0; i < n; i += 32 {
		r0, r1 := load(r, i)
		g0, g1 := load(g, i)
		b0, b1 := load(b, i)
		l0, l1 := lumas(r0, g0, b0), lumas(r1, g1, b1)
		store(r, i, l0, l1)
		store(g, i, l0, l1)
		store(b, i, l0, l1)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

// extrapolate is blend for eight samples: truncate(from + factor*(v-from)),
// which needs no limits in between, as step has them, to give the same.
func extrapolate(from, v archsimd.Int32x8, fromFloat, factor archsimd.Float32x8) archsimd.Int32x8 {
	var zero archsimd.Float32x8
	way := v.Sub(from).ConvertToFloat32().Mul(factor)
	return fromFloat.Add(way).Max(zero).Min(archsimd.LoadFloat32x8(&floats255)).ConvertToInt32()
}

// saturationVector is Saturation of the first pixels.
func saturationVector(r, g, b []uint8, factor float32) int {
	n := vectorLength(r)
	if n == 0 {
		return 0
	}
	f := archsimd.BroadcastFloat32x8(factor)
	low := archsimd.BroadcastInt32x8(0xFFFF)
	for i := 0; i < n; i += 32 {
		r0, r1 := load(r, i)
		g0, g1 := load(g, i)
		b0, b1 := load(b, i)
		r0, g0, b0 = saturate(r0, g0, b0, f, low)
		r1, g1, b1 = saturate(r1, g1, b1, f, low)
		store(r, i, r0, r1)
		store(g, i, g0, g1)
		store(b, i, b0, b1)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

// saturate does 16 pixels.
func saturate(r, g, b archsimd.Uint16x16, factor archsimd.Float32x8, low archsimd.Int32x8) (_, _, _ archsimd.Uint16x16) {
	l := lumas(r, g, b).AsInt32x8()
	l0, l1 := l.And(low), right(l.AsUint32x8(), &longs16).AsInt32x8()
	f0, f1 := l0.ConvertToFloat32(), l1.ConvertToFloat32()
	one := func(v archsimd.Uint16x16) archsimd.Uint16x16 {
		v0 := extrapolate(l0, v.AsInt32x8().And(low), f0, factor)
		v1 := extrapolate(l1, right(v.AsUint32x8(), &longs16).AsInt32x8(), f1, factor)
		return v0.Or(left(v1, &longs16)).AsUint16x16()
	}
	return one(r), one(g), one(b)
}

// blendVector blends the first samples from a fixed value.
func blendVector(pix []uint8, from uint8, factor float32) int {
	n := vectorLength(pix)
	if n == 0 {
		return 0
	}
	f := archsimd.BroadcastFloat32x8(factor)
	start, startFloat := archsimd.BroadcastInt32x8(int32(from)), archsimd.BroadcastFloat32x8(float32(from))
	low := archsimd.BroadcastInt32x8(0xFF)
	for i := 0; i < n; i += 32 {
		p := (*[32]uint8)(pix[i:])
		v := archsimd.LoadUint8x32(p).AsUint32x8()
		v0 := extrapolate(start, v.AsInt32x8().And(low), startFloat, f)
		v1 := extrapolate(start, right(v, &longs8).AsInt32x8().And(low), startFloat, f)
		v2 := extrapolate(start, right(v, &longs16).AsInt32x8().And(low), startFloat, f)
		v3 := extrapolate(start, right(v, &longs24).AsInt32x8(), startFloat, f)
		v0.Or(left(v1, &longs8)).Or(left(v2, &longs16)).Or(left(v3, &longs24)).AsUint8x32().Store(p)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

// solarizeVector inverts those of the first samples that reach the threshold,
// 0 to 255.
func solarizeVector(pix []uint8, threshold int) int {
	n := vectorLength(pix)
	if n == 0 {
		return 0
	}
	least := archsimd.BroadcastUint8x32(uint8(threshold))
	for i := 0; i < n; i += 32 {
		p := (*[32]uint8)(pix[i:])
		v := archsimd.LoadUint8x32(p)
		v.Not().Merge(v, v.Max(least).Equal(v)).Store(p)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

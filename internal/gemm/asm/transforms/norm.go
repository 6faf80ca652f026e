package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The loops of batch normalisation for AVX-512, 16 channels at a time, for rows of float32
// or of bfloat16 that follow one another. Sums are in float64, in which products of
// float32 are exact, so that fused ones have the portable version's bits.

// element is a type of values in memory.
type element struct {
	name, goType string
	bytes        int // of 16
}

var (
	float32s  = element{"Float32", "float32", 64}
	bfloat16s = element{"BFloat16", "uint16", 32}
)

// load reads 16 values.
func (e element) load(m Mem, to reg.VecPhysical) {
	if e.bytes == 64 {
		VMOVUPS(m, to)
		return
	}
	VPMOVZXWD(m, to)
	VPSLLD(Imm(16), to, to)
}

// Registers for constants of store.
var roundHalf, roundOne, roundNaN = reg.Z29, reg.Z30, reg.Z31

// prepare sets the constants that store needs.
func (e element) prepare() {
	if e.bytes == 64 {
		return
	}
	for i, r := range []reg.VecPhysical{roundHalf, roundOne, roundNaN} {
		MOVL(U32([]uint32{0x7fff, 1, 0x7fc0}[i]), reg.EAX)
		VPBROADCASTD(reg.EAX, r)
	}
}

// store writes 16 values, rounded; spare is lost, and x.
func (e element) store(x, spare reg.VecPhysical, m Mem) {
	if e.bytes == 64 {
		VMOVUPS(x, m)
		return
	}
	VCMPPS(Imm(3), x, x, reg.K1) // not a number
	VPSRLD(Imm(16), x, spare)
	VPANDD(roundOne, spare, spare)
	VPADDD(roundHalf, spare, spare)
	VPADDD(spare, x, x)
	VPSRLD(Imm(16), x, x)
	VMOVDQA32(roundNaN, reg.K1, x)
	VPMOVDW(x, m)
}

// wide converts 16 float32 to float64.
func wide(x reg.VecPhysical, low, high reg.VecPhysical) {
	VCVTPS2PD(x.AsY(), low)
	VEXTRACTF64X4(Imm(1), x, high.AsY())
	VCVTPS2PD(high.AsY(), high)
}

// accumulate adds two registers of float64 to memory.
func accumulate(low, high reg.VecPhysical, m Mem) {
	VADDPD(m, low, low)
	VADDPD(m.Offset(64), high, high)
	VMOVUPS(low, m)
	VMOVUPS(high, m.Offset(64))
}

func norm() {
	for _, e := range []element{float32s, bfloat16s} {
		normSums(e)
		normApply(e)
		normBackwardSums(e)
		normBackward(e)
	}
}

// normSums adds the sums and sums of squares of the columns of rows.
func normSums(e element) {
	TEXT("normSums"+e.name, NOSPLIT, fmt.Sprintf("func(sums, squares *float64, x *%s, rows, vectors int)", e.goType))
	Pragma("noescape")
	sums, squares, x, rows, vectors, stride, at, left := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9
	Load(Param("sums"), sums)
	Load(Param("squares"), squares)
	Load(Param("x"), x)
	Load(Param("rows"), rows)
	Load(Param("vectors"), vectors)
	IMUL3Q(I32(int32(e.bytes)), vectors, stride)
	Label("channels")
	for i := range 4 {
		r := []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3}[i]
		VPXORD(r, r, r)
	}
	MOVQ(x, at)
	MOVQ(rows, left)
	Label("row")
	e.load(Mem{Base: at}, reg.Z4)
	wide(reg.Z4, reg.Z5, reg.Z6)
	VADDPD(reg.Z5, reg.Z0, reg.Z0)
	VADDPD(reg.Z6, reg.Z1, reg.Z1)
	VFMADD231PD(reg.Z5, reg.Z5, reg.Z2)
	VFMADD231PD(reg.Z6, reg.Z6, reg.Z3)
	ADDQ(stride, at)
	DECQ(left)
	JNE(LabelRef("row"))
	accumulate(reg.Z0, reg.Z1, Mem{Base: sums})
	accumulate(reg.Z2, reg.Z3, Mem{Base: squares})
	ADDQ(Imm(uint64(e.bytes)), x)
	ADDQ(I32(128), sums)
	ADDQ(I32(128), squares)
	DECQ(vectors)
	JNE(LabelRef("channels"))
	VZEROUPPER()
	RET()
}

// normApply writes y = x scale + shift, plus residual unless it is nil, and no less than 0
// if asked for.
func normApply(e element) {
	TEXT("normApply"+e.name, NOSPLIT, fmt.Sprintf("func(y, x, residual *%s, scale, shift *float32, rows, vectors int, relu bool)", e.goType))
	Pragma("noescape")
	y, x, residual, scale, shift, rows, vectors, at, channel, relu := reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12
	e.prepare()
	Load(Param("y"), y)
	Load(Param("x"), x)
	Load(Param("residual"), residual)
	Load(Param("scale"), scale)
	Load(Param("shift"), shift)
	Load(Param("rows"), rows)
	Load(Param("relu"), relu.As8())
	VPXORD(reg.Z7, reg.Z7, reg.Z7)
	XORQ(at, at)
	Label("row")
	XORQ(channel, channel)
	Load(Param("vectors"), vectors)
	Label("channels")
	e.load(Mem{Base: x, Index: at, Scale: 1}, reg.Z0)
	VMULPS(Mem{Base: scale, Index: channel, Scale: 1}, reg.Z0, reg.Z0)
	VADDPS(Mem{Base: shift, Index: channel, Scale: 1}, reg.Z0, reg.Z0)
	TESTQ(residual, residual)
	JE(LabelRef("alone"))
	e.load(Mem{Base: residual, Index: at, Scale: 1}, reg.Z1)
	VADDPS(reg.Z1, reg.Z0, reg.Z0)
	Label("alone")
	TESTB(relu.As8(), relu.As8())
	JE(LabelRef("linear"))
	VMAXPS(reg.Z0, reg.Z7, reg.Z0) // what is not a number stays
	Label("linear")
	e.store(reg.Z0, reg.Z1, Mem{Base: y, Index: at, Scale: 1})
	ADDQ(Imm(uint64(e.bytes)), at)
	ADDQ(Imm(64), channel)
	DECQ(vectors)
	JNE(LabelRef("channels"))
	DECQ(rows)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// normBackwardSums masks dy where y, unless it is nil, is not above 0, and adds the sums of
// its columns, and of their products with x - mean.
func normBackwardSums(e element) {
	TEXT("normBackwardSums"+e.name, NOSPLIT, fmt.Sprintf("func(sums, products *float64, dy, x, y *%s, mean *float32, rows, vectors int)", e.goType))
	Pragma("noescape")
	sums, products, dy, x, y, mean, vectors, stride, at, left := reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12
	e.prepare()
	Load(Param("sums"), sums)
	Load(Param("products"), products)
	Load(Param("dy"), dy)
	Load(Param("x"), x)
	Load(Param("y"), y)
	Load(Param("mean"), mean)
	Load(Param("vectors"), vectors)
	IMUL3Q(I32(int32(e.bytes)), vectors, stride)
	VPXORD(reg.Z16, reg.Z16, reg.Z16)
	Label("channels")
	for _, r := range []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3} {
		VPXORD(r, r, r)
	}
	VMOVUPS(Mem{Base: mean}, reg.Z17)
	XORQ(at, at)
	Load(Param("rows"), left)
	Label("row")
	e.load(Mem{Base: dy, Index: at, Scale: 1}, reg.Z4)
	TESTQ(y, y)
	JE(LabelRef("whole"))
	e.load(Mem{Base: y, Index: at, Scale: 1}, reg.Z5)
	VCMPPS(Imm(2), reg.Z16, reg.Z5, reg.K2) // y <= 0
	VMOVDQA32(reg.Z16, reg.K2, reg.Z4)
	if e.bytes == 64 {
		VMOVUPS(reg.Z4, Mem{Base: dy, Index: at, Scale: 1})
	} else {
		VPSRLD(Imm(16), reg.Z4, reg.Z6) // exact
		VPMOVDW(reg.Z6, Mem{Base: dy, Index: at, Scale: 1})
	}
	Label("whole")
	e.load(Mem{Base: x, Index: at, Scale: 1}, reg.Z5)
	VSUBPS(reg.Z17, reg.Z5, reg.Z5)
	wide(reg.Z4, reg.Z6, reg.Z7)
	wide(reg.Z5, reg.Z8, reg.Z9)
	VADDPD(reg.Z6, reg.Z0, reg.Z0)
	VADDPD(reg.Z7, reg.Z1, reg.Z1)
	VFMADD231PD(reg.Z6, reg.Z8, reg.Z2)
	VFMADD231PD(reg.Z7, reg.Z9, reg.Z3)
	ADDQ(stride, at)
	DECQ(left)
	JNE(LabelRef("row"))
	accumulate(reg.Z0, reg.Z1, Mem{Base: sums})
	accumulate(reg.Z2, reg.Z3, Mem{Base: products})
	ADDQ(Imm(uint64(e.bytes)), dy)
	ADDQ(Imm(uint64(e.bytes)), x)
	TESTQ(y, y)
	JE(LabelRef("none"))
	ADDQ(Imm(uint64(e.bytes)), y)
	Label("none")
	ADDQ(Imm(64), mean)
	ADDQ(I32(128), sums)
	ADDQ(I32(128), products)
	DECQ(vectors)
	JNE(LabelRef("channels"))
	VZEROUPPER()
	RET()
}

// normBackward writes dx = k0 dy + k1 (x - mean) + k2.
func normBackward(e element) {
	TEXT("normBackward"+e.name, NOSPLIT, fmt.Sprintf("func(dx, dy, x *%s, mean, k0, k1, k2 *float32, rows, vectors int)", e.goType))
	Pragma("noescape")
	dx, dy, x, mean, k0, k1, k2, rows, vectors, at, channel := reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13
	e.prepare()
	Load(Param("dx"), dx)
	Load(Param("dy"), dy)
	Load(Param("x"), x)
	Load(Param("mean"), mean)
	Load(Param("k0"), k0)
	Load(Param("k1"), k1)
	Load(Param("k2"), k2)
	Load(Param("rows"), rows)
	XORQ(at, at)
	Label("row")
	XORQ(channel, channel)
	Load(Param("vectors"), vectors)
	Label("channels")
	e.load(Mem{Base: dy, Index: at, Scale: 1}, reg.Z0)
	e.load(Mem{Base: x, Index: at, Scale: 1}, reg.Z1)
	VMULPS(Mem{Base: k0, Index: channel, Scale: 1}, reg.Z0, reg.Z0)
	VSUBPS(Mem{Base: mean, Index: channel, Scale: 1}, reg.Z1, reg.Z1)
	VMULPS(Mem{Base: k1, Index: channel, Scale: 1}, reg.Z1, reg.Z1)
	VADDPS(reg.Z1, reg.Z0, reg.Z0)
	VADDPS(Mem{Base: k2, Index: channel, Scale: 1}, reg.Z0, reg.Z0)
	e.store(reg.Z0, reg.Z1, Mem{Base: dx, Index: at, Scale: 1})
	ADDQ(Imm(uint64(e.bytes)), at)
	ADDQ(Imm(64), channel)
	DECQ(vectors)
	JNE(LabelRef("channels"))
	DECQ(rows)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Conversions between float32 and bfloat16, whose bits are the upper half of a
// float32's, for AVX-512: so many times 16 values.

// begin declares a function and loads its pointers and count.
func begin(name, signature string, pointers ...string) (count reg.GPPhysical, registers []reg.GPPhysical) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	count = reg.RCX
	registers = []reg.GPPhysical{reg.RAX, reg.RBX, reg.RDX}[:len(pointers)]
	for i, p := range pointers {
		Load(Param(p), registers[i])
	}
	Load(Param("vectors"), count)
	return count, registers
}

// next moves pointers by so many bytes each, and repeats.
func next(count reg.GPPhysical, pointers []reg.GPPhysical, bytes ...uint64) {
	for i, p := range pointers {
		ADDQ(Imm(bytes[i]), p)
	}
	DECQ(count)
	JNE(LabelRef("values"))
	VZEROUPPER()
	RET()
}

// rounding has the constants of round.
func rounding() {
	half, one, nan := reg.Z16, reg.Z17, reg.Z18
	for i, r := range []reg.VecPhysical{half, one, nan} {
		MOVL(U32([]uint32{0x7fff, 1, 0x7fc00000}[i]), reg.ESI)
		VPBROADCASTD(reg.ESI, r)
	}
}

// round rounds float32 to the nearest, or even, number whose lower half is 0; what is
// not a number becomes one such.
func round(x, spare reg.VecPhysical) {
	half, one, nan := reg.Z16, reg.Z17, reg.Z18
	VCMPPS(Imm(3), x, x, reg.K1) // unordered
	VPSRLD(Imm(16), x, spare)
	VPANDD(one, spare, spare)
	VPADDD(half, spare, spare)
	VPADDD(spare, x, x)
	VMOVDQA32(nan, reg.K1, x)
}

func bfloat16() {
	count, p := begin("widenAVX512", "func(dst *float32, src *uint16, vectors int)", "dst", "src")
	Label("values")
	VPMOVZXWD(Mem{Base: p[1]}, reg.Z0)
	VPSLLD(Imm(16), reg.Z0, reg.Z0)
	VMOVUPS(reg.Z0, Mem{Base: p[0]})
	next(count, p, 64, 32)

	count, p = begin("narrowAVX512", "func(dst *uint16, src *float32, vectors int)", "dst", "src")
	rounding()
	Label("values")
	VMOVUPS(Mem{Base: p[1]}, reg.Z0)
	round(reg.Z0, reg.Z1)
	VPSRLD(Imm(16), reg.Z0, reg.Z0)
	VPMOVDW(reg.Z0, Mem{Base: p[0]})
	next(count, p, 32, 64)

	count, p = begin("narrowPairsAVX512", "func(dst, a, b *float32, vectors int)", "dst", "a", "b")
	rounding()
	Label("values")
	VMOVUPS(Mem{Base: p[1]}, reg.Z0)
	VMOVUPS(Mem{Base: p[2]}, reg.Z2)
	round(reg.Z0, reg.Z1)
	round(reg.Z2, reg.Z1)
	VPSRLD(Imm(16), reg.Z0, reg.Z0)
	VPSRLD(Imm(16), reg.Z2, reg.Z2)
	VPSLLD(Imm(16), reg.Z2, reg.Z2)
	VPORD(reg.Z2, reg.Z0, reg.Z0)
	VMOVUPS(reg.Z0, Mem{Base: p[0]})
	next(count, p, 64, 64, 64)

	count, p = begin("interleaveAVX512", "func(dst *float32, a, b *uint16, vectors int)", "dst", "a", "b")
	Label("values")
	VPMOVZXWD(Mem{Base: p[1]}, reg.Z0)
	VPMOVZXWD(Mem{Base: p[2]}, reg.Z1)
	VPSLLD(Imm(16), reg.Z1, reg.Z1)
	VPORD(reg.Z1, reg.Z0, reg.Z0)
	VMOVUPS(reg.Z0, Mem{Base: p[0]})
	next(count, p, 64, 32, 32)
}

// interleaveRows writes a function that packs 32 columns of rows, which are given by
// pointers and begin some bytes behind them, in pairs of rows.
func interleaveRows() {
	TEXT("interleaveRows32AVX512", NOSPLIT, "func(dst *float32, rows **uint16, offset, pairs int)")
	Pragma("noescape")
	dst, rows, offset, pairs, a, b := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI
	Load(Param("dst"), dst)
	Load(Param("rows"), rows)
	Load(Param("offset"), offset)
	Load(Param("pairs"), pairs)
	Label("pair")
	MOVQ(Mem{Base: rows}, a)
	MOVQ(Mem{Base: rows, Disp: 8}, b)
	for v := range 2 {
		x, y := []reg.VecPhysical{reg.Z0, reg.Z2}[v], []reg.VecPhysical{reg.Z1, reg.Z3}[v]
		VPMOVZXWD(Mem{Base: a, Index: offset, Scale: 1, Disp: 32 * v}, x)
		VPMOVZXWD(Mem{Base: b, Index: offset, Scale: 1, Disp: 32 * v}, y)
		VPSLLD(Imm(16), y, y)
		VPORD(y, x, x)
		VMOVUPS(x, Mem{Base: dst, Disp: 64 * v})
	}
	ADDQ(Imm(16), rows)
	ADDQ(I32(128), dst)
	DECQ(pairs)
	JNE(LabelRef("pair"))
	VZEROUPPER()
	RET()
}

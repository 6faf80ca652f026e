// Command transforms writes the transforms of Winograd's convolutions, and the loops of
// batch normalisation, in Go's assembly for package train/device/cpu:
//
//	go generate ./train/device/cpu
//
// All work on so many channels at a time as a register holds; what is left over is done
// by the portable versions, which say what each is.
package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// level is a set of vector registers.
type level struct {
	name      string
	bytes     int
	registers []reg.VecPhysical
}

var levels = []level{
	{"AVX512", 64, []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	}},
	{"AVX2", 32, []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}},
}

var oneHalf Mem

func main() {
	ConstraintExpr("amd64")
	oneHalf = ConstData("half", F32(0.5))
	for _, l := range levels {
		l.input()
		l.output()
		l.gradient()
		l.weights()
		l.weightGradient()
	}
	norm()
	Generate()
}

// grid addresses rows of elements that are a stride apart.
type grid struct {
	rows            []reg.GPPhysical
	stride, stride3 reg.GPPhysical
}

// spread points to the rows behind the first, each of n elements, 3 or 4.
func (g grid) spread(n int) {
	for i := 1; i < len(g.rows); i++ {
		if n == 4 {
			LEAQ(Mem{Base: g.rows[i-1], Index: g.stride, Scale: 4}, g.rows[i])
		} else {
			LEAQ(Mem{Base: g.rows[i-1], Index: g.stride3, Scale: 1}, g.rows[i])
		}
	}
}

func (g grid) at(row, column int) Mem {
	switch column {
	case 0:
		return Mem{Base: g.rows[row]}
	case 3:
		return Mem{Base: g.rows[row], Index: g.stride3, Scale: 1}
	}
	return Mem{Base: g.rows[row], Index: g.stride, Scale: uint8(column)}
}

// load loads the first row's address and the stride, in floats.
func (g grid) load(base, stride string) {
	Load(Param(base), g.rows[0])
	Load(Param(stride), g.stride)
	SHLQ(Imm(2), g.stride)
	LEAQ(Mem{Base: g.stride, Index: g.stride, Scale: 2}, g.stride3)
}

// next moves all to the next channels.
func (l level) next(vectors reg.GPPhysical, pointers ...reg.GPPhysical) {
	for _, r := range pointers {
		ADDQ(Imm(uint64(l.bytes)), r)
	}
	DECQ(vectors)
	JNE(LabelRef("channels"))
	VZEROUPPER()
	RET()
}

// input is B' x B of the channels of 16 pixels.
func (l level) input() {
	TEXT("transformInput"+l.name, NOSPLIT, "func(dst *float32, stride int, x *[16]*float32, vectors int)")
	Pragma("noescape")
	dst, stride, stride3, x, at, end := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI
	pixels := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14, reg.R15}
	Load(Param("dst"), dst)
	Load(Param("stride"), stride)
	Load(Param("x"), x)
	Load(Param("vectors"), end)
	IMUL3Q(I32(int32(l.bytes)), end, end)
	SHLQ(Imm(2), stride)
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	for row, pair := range [4][2]int{{0, 2}, {1, 2}, {2, 1}, {1, 3}} {
		for c := range 4 {
			MOVQ(Mem{Base: x, Disp: 8 * (4*pair[0] + c)}, pixels[c])
			MOVQ(Mem{Base: x, Disp: 8 * (4*pair[1] + c)}, pixels[4+c])
		}
		name := fmt.Sprintf("row%d", row)
		XORQ(at, at)
		out := dst
		Label(name)
		t := l.registers[:4]
		for c := range 4 {
			VMOVUPS(Mem{Base: pixels[c], Index: at, Scale: 1}, t[c])
			if row == 1 {
				VADDPS(Mem{Base: pixels[4+c], Index: at, Scale: 1}, t[c], t[c])
			} else {
				VSUBPS(Mem{Base: pixels[4+c], Index: at, Scale: 1}, t[c], t[c])
			}
		}
		u := l.registers[4:8]
		VSUBPS(t[2], t[0], u[0])
		VADDPS(t[2], t[1], u[1])
		VSUBPS(t[1], t[2], u[2])
		VSUBPS(t[3], t[1], u[3])
		VMOVUPS(u[0], Mem{Base: out})
		VMOVUPS(u[1], Mem{Base: out, Index: stride, Scale: 1})
		VMOVUPS(u[2], Mem{Base: out, Index: stride, Scale: 2})
		VMOVUPS(u[3], Mem{Base: out, Index: stride3, Scale: 1})
		ADDQ(Imm(uint64(l.bytes)), out)
		ADDQ(Imm(uint64(l.bytes)), at)
		CMPQ(at, end)
		JL(LabelRef(name))
		SUBQ(end, out)
		LEAQ(Mem{Base: out, Index: stride, Scale: 4}, out)
	}
	VZEROUPPER()
	RET()
}

// output is A' m A to the channels of 4 pixels, or added to what is there.
func (l level) output() {
	TEXT("transformOutput"+l.name, NOSPLIT, "func(y *[4]*float32, m *float32, stride, vectors int, accumulate bool)")
	Pragma("noescape")
	stride, stride3, vectors, add := reg.RAX, reg.RBX, reg.RCX, reg.RDX
	rows := grid{[]reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}, stride, stride3}
	results := []reg.GPPhysical{reg.R12, reg.R13, reg.R14, reg.R15}
	Load(Param("y"), add)
	for q, r := range results {
		MOVQ(Mem{Base: add, Disp: 8 * q}, r)
	}
	Load(Param("m"), rows.rows[0])
	Load(Param("stride"), stride)
	Load(Param("vectors"), vectors)
	Load(Param("accumulate"), add.As8())
	SHLQ(Imm(2), stride)
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	rows.spread(4)
	a, b, v := l.registers[:4], l.registers[4:8], l.registers[8:12]
	Label("channels")
	for c := range 4 {
		VMOVUPS(rows.at(1, c), v[1])
		VMOVUPS(rows.at(2, c), v[2])
		VMOVUPS(rows.at(0, c), a[c])
		VADDPS(v[1], a[c], a[c])
		VADDPS(v[2], a[c], a[c])
		VSUBPS(v[2], v[1], b[c])
		VSUBPS(rows.at(3, c), b[c], b[c])
	}
	for q, t := range [4][]reg.VecPhysical{a, a, b, b} {
		if q%2 == 0 {
			VADDPS(t[1], t[0], v[q])
			VADDPS(t[2], v[q], v[q])
		} else {
			VSUBPS(t[2], t[1], v[q])
			VSUBPS(t[3], v[q], v[q])
		}
	}
	TESTB(add.As8(), add.As8())
	JE(LabelRef("write"))
	for q, r := range results {
		VADDPS(Mem{Base: r}, v[q], v[q])
	}
	Label("write")
	for q, r := range results {
		VMOVUPS(v[q], Mem{Base: r})
	}
	l.next(vectors, append(slices.Clone(rows.rows), results...)...)
}

// gradient is A dy A' of the channels of 4 pixels.
func (l level) gradient() {
	TEXT("transformGradient"+l.name, NOSPLIT, "func(dst *float32, stride int, dy *[4]*float32, vectors int)")
	Pragma("noescape")
	dst := grid{[]reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}, reg.RAX, reg.RBX}
	vectors, dy := reg.RCX, []reg.GPPhysical{reg.R12, reg.R13, reg.R14, reg.R15}
	Load(Param("dy"), vectors)
	for q, r := range dy {
		MOVQ(Mem{Base: vectors, Disp: 8 * q}, r)
	}
	Load(Param("vectors"), vectors)
	dst.load("dst", "stride")
	dst.spread(4)
	d, zero, a, b, u := l.registers[:4], l.registers[4], l.registers[5], l.registers[6], l.registers[7:10]
	VXORPS(zero.AsX(), zero.AsX(), zero.AsX())
	Label("channels")
	for q, r := range dy {
		VMOVUPS(Mem{Base: r}, d[q])
	}
	for row := range 4 {
		x, y := a, b
		switch row {
		case 0:
			x, y = d[0], d[1]
		case 1:
			VADDPS(d[2], d[0], a)
			VADDPS(d[3], d[1], b)
		case 2:
			VSUBPS(d[2], d[0], a)
			VSUBPS(d[3], d[1], b)
		case 3:
			VSUBPS(d[2], zero, a)
			VSUBPS(d[3], zero, b)
		}
		VADDPS(y, x, u[0])
		VSUBPS(y, x, u[1])
		VSUBPS(y, zero, u[2])
		VMOVUPS(x, dst.at(row, 0))
		for c := range 3 {
			VMOVUPS(u[c], dst.at(row, c+1))
		}
	}
	l.next(vectors, append(slices.Clone(dst.rows), dy...)...)
}

// half makes 1/2 in every place of a register.
func (l level) half(r reg.VecPhysical) {
	VBROADCASTSS(oneHalf, r)
}

// weights is G w G' of weights, 3 x 3 taps a stride apart.
func (l level) weights() {
	TEXT("transformWeights"+l.name, NOSPLIT, "func(dst *float32, stride int, w *float32, tap, vectors int)")
	Pragma("noescape")
	dst := grid{[]reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}, reg.RAX, reg.RBX}
	w := grid{[]reg.GPPhysical{reg.R12, reg.R13, reg.R14}, reg.RCX, reg.RDX}
	vectors := reg.RSI
	Load(Param("vectors"), vectors)
	dst.load("dst", "stride")
	dst.spread(4)
	w.load("w", "tap")
	w.spread(3)
	half, even, odd := l.registers[15], l.registers[13], l.registers[14]
	l.half(half)
	t := [4][]reg.VecPhysical{l.registers[0:3], l.registers[3:6], l.registers[6:9], l.registers[9:12]}
	// spread makes the two inner ones of four of three values.
	spread := func(w0, w1, w2, x, y reg.VecPhysical) {
		VADDPS(w2, w0, even)
		VMULPS(half, even, even)
		VMULPS(half, w1, odd)
		VADDPS(odd, even, x)
		VSUBPS(odd, even, y)
	}
	Label("channels")
	for c := range 3 {
		VMOVUPS(w.at(0, c), t[0][c])
		VMOVUPS(w.at(1, c), t[1][c])
		VMOVUPS(w.at(2, c), t[3][c])
		spread(t[0][c], t[1][c], t[3][c], t[1][c], t[2][c])
	}
	for row, v := range t {
		VMOVUPS(v[0], dst.at(row, 0))
		VMOVUPS(v[2], dst.at(row, 3))
		spread(v[0], v[1], v[2], v[0], v[1])
		VMOVUPS(v[0], dst.at(row, 1))
		VMOVUPS(v[1], dst.at(row, 2))
	}
	l.next(vectors, append(slices.Clone(dst.rows), w.rows...)...)
}

// weightGradient adds G' u G to the gradient of weights, 3 x 3 taps a stride apart.
func (l level) weightGradient() {
	TEXT("addWeightGradient"+l.name, NOSPLIT, "func(dw *float32, tap int, u *float32, stride, vectors int)")
	Pragma("noescape")
	u := grid{[]reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}, reg.RAX, reg.RBX}
	dw := grid{[]reg.GPPhysical{reg.R12, reg.R13, reg.R14}, reg.RCX, reg.RDX}
	vectors := reg.RSI
	Load(Param("vectors"), vectors)
	u.load("u", "stride")
	u.spread(4)
	dw.load("dw", "tap")
	dw.spread(3)
	half, even, odd := l.registers[15], l.registers[13], l.registers[14]
	l.half(half)
	t := [3][]reg.VecPhysical{l.registers[0:4], l.registers[4:8], l.registers[8:12]}
	// gather is half the sum and half the difference of the inner ones of four.
	gather := func(u1, u2 reg.VecPhysical) {
		VSUBPS(u2, u1, odd)
		VADDPS(u2, u1, even)
		VMULPS(half, odd, odd)
		VMULPS(half, even, even)
	}
	Label("channels")
	for c := range 4 {
		VMOVUPS(u.at(1, c), t[0][c])
		VMOVUPS(u.at(2, c), t[1][c])
		gather(t[0][c], t[1][c])
		VADDPS(u.at(0, c), even, t[0][c])
		VMOVAPS(odd, t[1][c])
		VADDPS(u.at(3, c), even, t[2][c])
	}
	for row, v := range t {
		gather(v[1], v[2])
		VADDPS(even, v[0], v[0])
		VADDPS(v[3], even, even)
		for c, value := range []reg.VecPhysical{v[0], odd, even} {
			VADDPS(dw.at(row, c), value, value)
			VMOVUPS(value, dw.at(row, c))
		}
	}
	l.next(vectors, append(slices.Clone(u.rows), dw.rows...)...)
}

// Command asm writes the kernels of package gemm in Go's assembly:
//
//	go generate ./internal/gemm
//
// A kernel keeps a tile of the result in registers, adds to it the products of so many
// rows and columns for each place of the sum, and stores it at the end. All are alike
// but for the width of the registers, the instruction that multiplies and adds, and
// where the rows come from.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// level is a set of vector registers with the tile that they hold: mr rows of two
// registers each, of which a kernel computes the first m.
type level struct {
	name      string
	mr, m     int
	bytes     int // of a register
	registers []reg.VecPhysical
}

var (
	avx512 = level{"AVX512", 12, 0, 64, []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}}
	avx2 = level{"AVX2", 6, 0, 32, []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}}
)

// generals are all registers but the stack's pointer. BP is saved where a function has
// locals, and in functions of the first ABI nothing lies in R14 and R15.
var generals = []reg.GPPhysical{
	reg.RAX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14, reg.R15, reg.RBP, reg.RBX,
}

func main() {
	ConstraintExpr("amd64")
	for third := 1; third <= 3; third++ { // of the tile's rows
		for _, l := range []level{avx512, avx2} {
			l.m = third * l.mr / 3
			l.rows("Float32"+l.name, "float32", l.fused)
			l.packed("Float32"+l.name, "float32", l.fused)
		}
		bf16 := avx512
		bf16.m = third * bf16.mr / 3
		bf16.rows("BFloat16", "float32", dot)
		bf16.packed("BFloat16", "float32", dot)
	}
	for _, width := range []int{6, 12, 16, 32} {
		copyRows(width)
	}
	copyPanels(6)
	copyPanels(12)
	transpose()
	bfloat16()
	interleaveRows()
	Generate()
}

// fused is acc += a b in float32.
func (l level) fused(a, b, acc reg.VecPhysical) { VFMADD231PS(a, b, acc) }

// dot is VDPBF16PS, acc += the products of pairs of bfloat16, which is not in the
// assembler: EVEX.512.F3.0F38.W0 52 /r.
func dot(a, b, acc reg.VecPhysical) {
	x, y, z := number(acc), number(b), number(a) // the encoding's reg, vvvv and rm
	not := func(register uint64, bit uint) uint64 { return ^(register >> bit) & 1 }
	for _, value := range []uint64{
		0x62,
		not(x, 3)<<7 | not(z, 4)<<6 | not(z, 3)<<5 | not(x, 4)<<4 | 2,
		(^y&15)<<3 | 4 | 2,
		2<<5 | not(y, 4)<<3,
		0x52,
		3<<6 | x&7<<3 | z&7,
	} {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(value)}})
	}
}

// number is a register's, by its name.
func number(r reg.VecPhysical) (n uint64) {
	if _, err := fmt.Sscanf(r.Asm(), "Z%d", &n); err != nil {
		panic(err)
	}
	return n
}

type multiply func(a, b, acc reg.VecPhysical)

// accumulators are those of a row.
func (l level) accumulators(row int) (left, right reg.VecPhysical) {
	return l.registers[2*row], l.registers[2*row+1]
}

func (l level) clear() {
	for i := range 2 * l.m {
		if l.bytes == 64 {
			VPXORD(l.registers[i], l.registers[i], l.registers[i])
		} else {
			VXORPS(l.registers[i], l.registers[i], l.registers[i])
		}
	}
}

// fetch asks for the lines of the result, which are needed last.
func (l level) fetch(c, stride reg.GPPhysical) {
	Load(Param("c"), c)
	Load(Param("ldc"), stride)
	SHLQ(Imm(2), stride)
	for i := range l.m {
		PREFETCHT0(Mem{Base: c})
		PREFETCHT0(Mem{Base: c, Disp: 2*l.bytes - 4})
		if i < l.m-1 {
			ADDQ(stride, c)
		}
	}
}

// place adds the products of one place of the sum: of b's two registers' worth and what
// row gives for each row.
func (l level) place(b Mem, row func(i int) Mem, fma multiply) {
	left, right := l.registers[2*l.mr], l.registers[2*l.mr+1]
	spare := l.registers[2*l.mr+2:]
	VMOVUPS(b, left)
	VMOVUPS(b.Offset(l.bytes), right)
	for i := range l.m {
		value := spare[i%len(spare)]
		VBROADCASTSS(row(i), value)
		x, y := l.accumulators(i)
		fma(left, value, x)
		fma(right, value, y)
	}
}

// store writes the tile to c, of rows so many floats apart, or adds it to what is there.
func (l level) store() {
	c, stride, add := reg.RAX, reg.RCX, reg.RDX
	Load(Param("c"), c)
	Load(Param("ldc"), stride)
	SHLQ(Imm(2), stride)
	Load(Param("accumulate"), add.As8())
	TESTB(add.As8(), add.As8())
	JE(LabelRef("write"))
	MOVQ(c, add)
	for i := range l.m {
		x, y := l.accumulators(i)
		VADDPS(Mem{Base: add}, x, x)
		VADDPS(Mem{Base: add, Disp: l.bytes}, y, y)
		ADDQ(stride, add)
	}
	Label("write")
	for i := range l.m {
		x, y := l.accumulators(i)
		VMOVUPS(x, Mem{Base: c})
		VMOVUPS(y, Mem{Base: c, Disp: l.bytes})
		ADDQ(stride, c)
	}
	VZEROUPPER()
	RET()
}

// unrolled repeats body for index from minus a count to -1, four at a time as long as
// there are so many. body takes the places beyond index; step follows each time.
func unrolled(name string, index reg.GPPhysical, body func(u int), step func(n int)) {
	const times = 4
	Label(name)
	CMPQ(index, I32(-times))
	JG(LabelRef(name + "_rest"))
	for u := range times {
		body(u)
	}
	step(times)
	ADDQ(Imm(times), index)
	JMP(LabelRef(name))
	Label(name + "_rest")
	TESTQ(index, index)
	JE(LabelRef(name + "_end"))
	body(0)
	step(1)
	INCQ(index)
	JMP(LabelRef(name + "_rest"))
	Label(name + "_end")
}

// rows writes a kernel whose rows are read through pointers.
func (l level) rows(kind, element string, fma multiply) {
	TEXT(fmt.Sprintf("rows%sx%d", kind, l.m), NOSPLIT, fmt.Sprintf("func(rows **%s, taps, depth int, b *%s, c *float32, ldc int, accumulate bool)", element, element))
	Pragma("noescape")
	left := AllocLocal(8)
	rows, pointers, b, index := generals[:l.m], generals[len(generals)-1], generals[len(generals)-2], generals[len(generals)-3]
	Load(Param("taps"), index)
	MOVQ(index, left)
	l.fetch(pointers, b)
	Load(Param("rows"), pointers)
	Load(Param("b"), b)
	l.clear()
	Label("tap")
	Load(Param("depth"), index)
	for i, row := range rows { // behind their last places
		MOVQ(Mem{Base: pointers, Disp: 8 * i}, row)
		LEAQ(Mem{Base: row, Index: index, Scale: 4}, row)
	}
	ADDQ(Imm(uint64(8*l.mr)), pointers)
	NEGQ(index)
	unrolled("place", index, func(u int) {
		l.place(Mem{Base: b, Disp: 2 * l.bytes * u}, func(i int) Mem { return Mem{Base: rows[i], Index: index, Scale: 4, Disp: 4 * u} }, fma)
	}, func(n int) { ADDQ(I32(int32(2*l.bytes*n)), b) })
	DECQ(left)
	JNE(LabelRef("tap"))
	l.store()
}

// packed writes a kernel whose rows lie side by side.
func (l level) packed(kind, element string, fma multiply) {
	TEXT(fmt.Sprintf("packed%sx%d", kind, l.m), NOSPLIT, fmt.Sprintf("func(depth int, a, b *%s, c *float32, ldc int, accumulate bool)", element))
	Pragma("noescape")
	a, b, index := reg.RAX, reg.RBX, reg.RCX
	l.fetch(a, b)
	Load(Param("depth"), index)
	Load(Param("a"), a)
	Load(Param("b"), b)
	l.clear()
	NEGQ(index)
	unrolled("place", index, func(u int) {
		l.place(Mem{Base: b, Disp: 2 * l.bytes * u}, func(i int) Mem { return Mem{Base: a, Disp: 4 * (l.mr*u + i)} }, fma)
	}, func(n int) {
		ADDQ(I32(int32(4*l.mr*n)), a)
		ADDQ(I32(int32(2*l.bytes*n)), b)
	})
	l.store()
}

package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// copyRows writes a function that copies rows of width floats, which lie stride floats
// apart, side by side.
func copyRows(width int) {
	TEXT(fmt.Sprintf("copyRows%d", width), NOSPLIT, "func(dst, src *float32, rows, stride int)")
	Pragma("noescape")
	dst, src, rows, stride := reg.RAX, reg.RBX, reg.RCX, reg.RDX
	Load(Param("dst"), dst)
	Load(Param("src"), src)
	Load(Param("rows"), rows)
	Load(Param("stride"), stride)
	SHLQ(Imm(2), stride)
	Label("row")
	copyFloats(dst, src, width)
	ADDQ(I32(int32(4*width)), dst)
	ADDQ(stride, src)
	DECQ(rows)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// copyFloats copies a few floats.
func copyFloats(dst, src reg.GPPhysical, n int) {
	registers := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	for i, at := 0, 0; at < n; i++ {
		r, from, to := registers[i], Mem{Base: src, Disp: 4 * at}, Mem{Base: dst, Disp: 4 * at}
		switch left := n - at; {
		case left >= 8:
			VMOVUPS(from, r)
			VMOVUPS(r, to)
			at += 8
		case left >= 4:
			VMOVUPS(from, r.AsX())
			VMOVUPS(r.AsX(), to)
			at += 4
		default:
			VMOVQ(from, r.AsX())
			VMOVQ(r.AsX(), to)
			at += 2
		}
	}
}

// copyPanels writes a function that copies rows, which lie stride floats apart, in pieces
// of width floats to panels, which begin so many floats apart.
func copyPanels(width int) {
	TEXT(fmt.Sprintf("copyPanels%d", width), NOSPLIT, "func(dst, src *float32, rows, stride, panels, apart int)")
	Pragma("noescape")
	dst, src, rows, stride, panels, apart, to, from := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9
	Load(Param("dst"), dst)
	Load(Param("src"), src)
	Load(Param("rows"), rows)
	Load(Param("stride"), stride)
	Load(Param("apart"), apart)
	SHLQ(Imm(2), stride)
	SHLQ(Imm(2), apart)
	Label("row")
	MOVQ(dst, to)
	MOVQ(src, from)
	Load(Param("panels"), panels)
	Label("panel")
	copyFloats(to, from, width)
	ADDQ(I32(int32(4*width)), from)
	ADDQ(apart, to)
	DECQ(panels)
	JNE(LabelRef("panel"))
	ADDQ(I32(int32(4*width)), dst)
	ADDQ(stride, src)
	DECQ(rows)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// transpose writes a function that transposes blocks of 8 x 8 floats: of 8 rows of src,
// stride floats apart, it makes so many times 8 rows of dst, width floats apart.
func transpose() {
	TEXT("transpose8", NOSPLIT, "func(dst, src *float32, blocks, stride, width int)")
	Pragma("noescape")
	dst, src, blocks, stride, stride3, width, width3, src4, dst4 := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10
	Load(Param("dst"), dst)
	Load(Param("src"), src)
	Load(Param("blocks"), blocks)
	Load(Param("stride"), stride)
	Load(Param("width"), width)
	SHLQ(Imm(2), stride)
	SHLQ(Imm(2), width)
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	LEAQ(Mem{Base: width, Index: width, Scale: 2}, width3)
	row := func(base, base4, once, thrice reg.GPPhysical, i int) Mem {
		if i >= 4 {
			base, i = base4, i-4
		}
		switch i {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: thrice, Scale: 1}
		}
		return Mem{Base: base, Index: once, Scale: uint8(i)}
	}
	y := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}
	a, b := y[:8], y[8:]
	Label("block")
	LEAQ(Mem{Base: src, Index: stride, Scale: 4}, src4)
	LEAQ(Mem{Base: dst, Index: width, Scale: 4}, dst4)
	for i := range 8 {
		VMOVUPS(row(src, src4, stride, stride3, i), a[i])
	}
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(a[i+1], a[i], b[i])
		VUNPCKHPS(a[i+1], a[i], b[i+1])
	}
	for i := 0; i < 8; i += 4 {
		VUNPCKLPD(b[i+2], b[i], a[i])
		VUNPCKHPD(b[i+2], b[i], a[i+1])
		VUNPCKLPD(b[i+3], b[i+1], a[i+2])
		VUNPCKHPD(b[i+3], b[i+1], a[i+3])
	}
	for i := range 4 {
		VPERM2F128(Imm(0x20), a[i+4], a[i], b[i])
		VPERM2F128(Imm(0x31), a[i+4], a[i], b[i+4])
	}
	for i := range 8 {
		VMOVUPS(b[i], row(dst, dst4, width, width3, i))
	}
	ADDQ(Imm(32), src)
	LEAQ(Mem{Base: dst4, Index: width, Scale: 4}, dst)
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

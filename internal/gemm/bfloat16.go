package gemm

import (
	"math"
	"unsafe"
)

// A bfloat16 is the upper half of a float32's bits. Kernels for them multiply pairs of
// neighbours along the sum and add both products in float32; a pair lies in the 32 bits
// of one element of their operands, which are []float32 by type alone: depth and strides
// count pairs.

// BFloat16 are the kernels for pairs of bfloat16, nil where the processor has no
// instruction for them. It takes values below 2^-126 for 0.
func BFloat16() *Kernels { return pairKernels() }

// BFloat16Name is what stands for Name where these are in use.
const BFloat16Name = "Go assembly, avx512bf16"

// Widen converts bfloat16 to float32.
func Widen(dst []float32, src []uint16) {
	for i := widen(dst, src); i < len(src); i++ {
		dst[i] = math.Float32frombits(uint32(src[i]) << 16)
	}
}

// Narrow rounds float32 to the nearest, or even, bfloat16.
func Narrow(dst []uint16, src []float32) {
	for i := narrow(dst, src); i < len(src); i++ {
		dst[i] = Round(src[i])
	}
}

// NarrowPairs rounds a and b, and puts those of one place in a pair.
func NarrowPairs(dst, a, b []float32) {
	for i := narrowPairs(dst, a, b); i < len(a); i++ {
		dst[i] = pair(Round(a[i]), Round(b[i]))
	}
}

// Interleave puts the values of a and b of one place in a pair.
func Interleave(dst []float32, a, b []uint16) {
	for i := interleave(dst, a, b); i < len(a); i++ {
		dst[i] = pair(a[i], b[i])
	}
}

// PackPairs packs n columns of an even number of rows, which begin offset values behind
// the pointers, in pairs of rows, for a kernel of that width; columns that there are not
// are 0.
func PackPairs(dst []float32, rows []*uint16, offset, n, width int) {
	if len(rows) == 0 {
		return
	}
	_ = dst[len(rows)/2*width-1]
	if n == width && interleaveRows(dst, rows, offset, width) {
		return
	}
	if n < width {
		clear(dst[:len(rows)/2*width])
	}
	for p := 0; p < len(rows); p += 2 {
		a, b := unsafe.Slice(rows[p], offset+n)[offset:], unsafe.Slice(rows[p+1], offset+n)[offset:]
		Interleave(dst[p/2*width:], a, b)
	}
}

func pair(a, b uint16) float32 { return math.Float32frombits(uint32(a) | uint32(b)<<16) }

// Round is the nearest bfloat16, the even one of two; what is not a number becomes 0x7fc0.
func Round(x float32) uint16 {
	if x != x {
		return 0x7fc0
	}
	bits := math.Float32bits(x)
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

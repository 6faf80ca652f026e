package cpu

import "github.com/seed-436d2970/pixpro/internal/cpu"

// width is how many channels the transforms in assembly take at a time, 0 without them.
var width = map[cpu.Level]int{cpu.AVX2: 8, cpu.AVX512: 16}[min(cpu.Assembly(), cpu.AVX512)]

// vectorsOf is how many times width there is in n, and the channels that these are.
func vectorsOf(n int) (vectors, channels int) {
	if width == 0 {
		return 0, 0
	}
	return n / width, n / width * width
}

func transformInput(dst []float32, stride int, x *[elements]*float32, n int) {
	vectors, done := vectorsOf(n)
	if vectors > 0 {
		_ = dst[15*stride+done-1]
		if width == 16 {
			transformInputAVX512(&dst[0], stride, x, vectors)
		} else {
			transformInputAVX2(&dst[0], stride, x, vectors)
		}
	}
	transformInputGeneric(dst, stride, x, done, n)
}

func transformOutput(y *[4]*float32, m []float32, stride, n int, accumulate bool) {
	vectors, done := vectorsOf(n)
	if vectors > 0 {
		_ = m[15*stride+done-1]
		if width == 16 {
			transformOutputAVX512(y, &m[0], stride, vectors, accumulate)
		} else {
			transformOutputAVX2(y, &m[0], stride, vectors, accumulate)
		}
	}
	transformOutputGeneric(y, m, stride, done, n, accumulate)
}

func transformGradient(dst []float32, stride int, dy *[4]*float32, n int) {
	vectors, done := vectorsOf(n)
	if vectors > 0 {
		_ = dst[15*stride+done-1]
		if width == 16 {
			transformGradientAVX512(&dst[0], stride, dy, vectors)
		} else {
			transformGradientAVX2(&dst[0], stride, dy, vectors)
		}
	}
	transformGradientGeneric(dst, stride, dy, done, n)
}

func transformWeights(dst []float32, stride int, w []float32, n int, turned bool) {
	vectors, done := vectorsOf(n)
	if vectors > 0 {
		_, _ = dst[15*stride+done-1], w[8*n+done-1]
		first, tap := &w[0], n
		if turned {
			first, tap = &w[8*n], -n
		}
		if width == 16 {
			transformWeightsAVX512(&dst[0], stride, first, tap, vectors)
		} else {
			transformWeightsAVX2(&dst[0], stride, first, tap, vectors)
		}
	}
	transformWeightsGeneric(dst, stride, w, done, n, turned)
}

func addWeightGradient(dw, u []float32, stride, n int) {
	vectors, done := vectorsOf(n)
	if vectors > 0 {
		_, _ = u[15*stride+done-1], dw[8*n+done-1]
		if width == 16 {
			addWeightGradientAVX512(&dw[0], n, &u[0], stride, vectors)
		} else {
			addWeightGradientAVX2(&dw[0], n, &u[0], stride, vectors)
		}
	}
	addWeightGradientGeneric(dw, u, stride, done, n)
}

//go:build goexperiment.simd && amd64

package cpu

import (
	"simd/archsimd"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// The versions for AVX2 of the loops in rows_generic.go: eight channels at a
// time, the rest by the portable version.

const lanes = 8

var vectors = cpu.Current() >= cpu.AVX2

// clearUpperBits clears the upper bits of vector registers, which vector code and
// Go's scheduler leave behind. With them a math.Exp takes a microsecond, not ten
// nanoseconds.
func clearUpperBits() {
	if vectors {
		archsimd.ClearAVXUpperBits()
	}
}

func load(s []float32, i int) archsimd.Float32x8 {
	return archsimd.LoadFloat32x8((*[lanes]float32)(s[i : i+lanes]))
}

func store(s []float32, i int, v archsimd.Float32x8) { v.Store((*[lanes]float32)(s[i : i+lanes])) }

// add64 adds v to sums[i:i+4].
func add64(sums []float64, i int, v archsimd.Float64x4) {
	p := (*[4]float64)(sums[i : i+4])
	archsimd.LoadFloat64x4(p).Add(v).Store(p)
}

func addTo(dst, src []float32) {
	i := 0
	if vectors {
		for ; i+lanes <= len(dst); i += lanes {
			store(dst, i, load(dst, i).Add(load(src, i)))
		}
	}
	addToGeneric(dst[i:], src[i:])
}

func sumAndSquares(sums, squares []float64, x []float32) {
	c := len(sums)
	if !vectors || c%lanes != 0 {
		sumAndSquaresGeneric(sums, squares, x)
		return
	}
	for i := 0; i < c; i += lanes {
		var s0, s1, q0, q1 archsimd.Float64x4
		for at := i; at < len(x); at += c {
			v := load(x, at)
			lo, hi := v.GetLo().ConvertToFloat64(), v.GetHi().ConvertToFloat64()
			s0, s1 = s0.Add(lo), s1.Add(hi)
			q0, q1 = q0.Add(lo.Mul(lo)), q1.Add(hi.Mul(hi))
		}
		add64(sums, i, s0)
		add64(sums, i+4, s1)
		add64(squares, i, q0)
		add64(squares, i+4, q1)
	}
}

func scaleShiftRow(y, x, residual, scale, shift []float32, relu bool) {
	i := 0
	if vectors {
		var zero archsimd.Float32x8
		for ; i+lanes <= len(y); i += lanes {
			v := load(x, i).Mul(load(scale, i)).Add(load(shift, i))
			if residual != nil {
				v = v.Add(load(residual, i))
			}
			if relu {
				v = zero.Merge(v, v.Less(zero))
			}
			store(y, i, v)
		}
	}
	if residual != nil {
		residual = residual[i:]
	}
	scaleShiftRowGeneric(y[i:], x[i:], residual, scale[i:], shift[i:], relu)
}

func maskRow(grad, y []float32) {
	i := 0
	if vectors {
		var zero archsimd.Float32x8
		for ; i+lanes <= len(grad); i += lanes {
			store(grad, i, zero.Merge(load(grad, i), load(y, i).LessEqual(zero)))
		}
	}
	maskRowGeneric(grad[i:], y[i:])
}

func sumGradRow(sums, products []float64, grad, x, mean []float32) {
	i := 0
	if vectors {
		for ; i+lanes <= len(grad); i += lanes {
			g, d := load(grad, i), load(x, i).Sub(load(mean, i))
			lo, hi := g.GetLo().ConvertToFloat64(), g.GetHi().ConvertToFloat64()
			add64(sums, i, lo)
			add64(sums, i+4, hi)
			add64(products, i, lo.Mul(d.GetLo().ConvertToFloat64()))
			add64(products, i+4, hi.Mul(d.GetHi().ConvertToFloat64()))
		}
	}
	sumGradRowGeneric(sums[i:], products[i:], grad[i:], x[i:], mean[i:])
}

func combineRow(dx, dy, x, mean, k0, k1, k2 []float32) {
	i := 0
	if vectors {
		for ; i+lanes <= len(dx); i += lanes {
			v := load(k0, i).Mul(load(dy, i)).Add(load(k1, i).Mul(load(x, i).Sub(load(mean, i)))).Add(load(k2, i))
			store(dx, i, v)
		}
	}
	combineRowGeneric(dx[i:], dy[i:], x[i:], mean[i:], k0[i:], k1[i:], k2[i:])
}

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

func maxRow(y, x []float32) {
	i := 0
	if vectors {
		for ; i+lanes <= len(y); i += lanes {
			v, most := load(x, i), load(y, i)
			store(y, i, v.Merge(most, v.Greater(most).Or(v.NotEqual(v))))
		}
	}
	maxRowGeneric(y[i:], x[i:])
}

func maxBackRow(dx, left, x, top []float32) {
	i := 0
	if vectors {
		var zero archsimd.Float32x8
		for ; i+lanes <= len(dx); i += lanes {
			grad, most := load(left, i), load(x, i).Equal(load(top, i))
			store(dx, i, load(dx, i).Add(grad).Merge(load(dx, i), most))
			store(left, i, zero.Merge(grad, most))
		}
	}
	maxBackRowGeneric(dx[i:], left[i:], x[i:], top[i:])
}

func squareLengths(sums *[2][sumLanes]float64, p, g []float32, decay float64) {
	i := 0
	if vectors {
		d := archsimd.BroadcastFloat64x4(decay)
		for half := 0; half < sumLanes; half += 4 {
			pp, gg := archsimd.LoadFloat64x4((*[4]float64)(sums[0][half:])), archsimd.LoadFloat64x4((*[4]float64)(sums[1][half:]))
			for i = half; i+4 <= len(p)/lanes*lanes; i += lanes {
				w, v := load4(p, i).ConvertToFloat64(), load4(g, i).ConvertToFloat64()
				v = v.Add(d.Mul(w))
				pp, gg = pp.Add(w.Mul(w)), gg.Add(v.Mul(v))
			}
			pp.Store((*[4]float64)(sums[0][half:]))
			gg.Store((*[4]float64)(sums[1][half:]))
		}
		i = len(p) / lanes * lanes
	}
	squareLengthsGeneric(sums, p[i:], g[i:], decay)
}

func load4(s []float32, i int) archsimd.Float32x4 {
	return archsimd.LoadFloat32x4((*[4]float32)(s[i : i+4]))
}

func updateRow(p, buffer, g []float32, momentum, gradScale, weightScale, rate float32) {
	i := 0
	if vectors {
		m, gs, ws, r := archsimd.BroadcastFloat32x8(momentum), archsimd.BroadcastFloat32x8(gradScale), archsimd.BroadcastFloat32x8(weightScale), archsimd.BroadcastFloat32x8(rate)
		for ; i+lanes <= len(p); i += lanes {
			w := load(p, i)
			v := m.Mul(load(buffer, i)).Add(gs.Mul(load(g, i))).Add(ws.Mul(w))
			store(buffer, i, v)
			store(p, i, w.Sub(r.Mul(v)))
		}
	}
	updateRowGeneric(p[i:], buffer[i:], g[i:], momentum, gradScale, weightScale, rate)
}

func averageRow(key, query []float32, keep, take float32) {
	i := 0
	if vectors {
		a, b := archsimd.BroadcastFloat32x8(keep), archsimd.BroadcastFloat32x8(take)
		for ; i+lanes <= len(key); i += lanes {
			store(key, i, a.Mul(load(key, i)).Add(b.Mul(load(query, i))))
		}
	}
	averageRowGeneric(key[i:], query[i:], keep, take)
}

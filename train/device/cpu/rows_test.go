package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/gemm"
)

// TestRowsEqualPortable compares the loops over channels with their portable
// versions bit for bit, for rows of every length up to 70, and checks that
// nothing behind a row is written.
func TestRowsEqualPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const canary = 12345
	row := func(n int) []float32 {
		s := make([]float32, n, n+1)
		for i := range s {
			switch rng.IntN(20) {
			case 0:
				s[i] = 0
			case 1:
				s[i] = float32(math.Copysign(0, -1))
			case 2:
				s[i] = float32(math.NaN())
			default:
				s[i] = float32(rng.NormFloat64())
			}
		}
		s[:n+1][n] = canary
		return s
	}
	sums := func(n int) []float64 {
		s := make([]float64, n, n+1)
		for i := range s {
			s[i] = rng.NormFloat64()
		}
		s[:n+1][n] = canary
		return s
	}
	for n := range 71 {
		a, b, c, d, e, f := row(n), row(n), row(n), row(n), row(n), row(n)
		s, q := sums(n), sums(n)
		rows := slices.Concat(row(n), row(n), row(n))
		check := func(what string, run func(generic bool, out []float32, s, q []float64)) {
			t.Helper()
			var outs [2][]float32
			var ss, qs [2][]float64
			for i := range outs {
				outs[i], ss[i], qs[i] = clone(a), clone(s), clone(q)
				run(i == 1, outs[i], ss[i], qs[i])
				if outs[i][:n+1][n] != canary || ss[i][:n+1][n] != canary || qs[i][:n+1][n] != canary {
					t.Fatalf("%s of %d channels wrote behind its row", what, n)
				}
			}
			if !slices.EqualFunc(outs[0], outs[1], same32) || !slices.EqualFunc(ss[0], ss[1], same64) || !slices.EqualFunc(qs[0], qs[1], same64) {
				t.Fatalf("%s of %d channels differs from the portable version", what, n)
			}
		}
		choose := func(generic bool, fast, portable func()) {
			if generic {
				portable()
			} else {
				fast()
			}
		}
		check("addTo", func(g bool, out []float32, _, _ []float64) {
			choose(g, func() { addTo(out, b) }, func() { addToGeneric(out, b) })
		})
		check("maskRow", func(g bool, out []float32, _, _ []float64) {
			choose(g, func() { maskRow(out, b) }, func() { maskRowGeneric(out, b) })
		})
		for _, relu := range []bool{false, true} {
			for _, residual := range [][]float32{nil, e} {
				check("scaleShiftRow", func(g bool, out []float32, _, _ []float64) {
					choose(g, func() { scaleShiftRow(out, b, residual, c, d, relu) }, func() { scaleShiftRowGeneric(out, b, residual, c, d, relu) })
				})
			}
		}
		check("combineRow", func(g bool, out []float32, _, _ []float64) {
			choose(g, func() { combineRow(out, out, b, c, d, e, f) }, func() { combineRowGeneric(out, out, b, c, d, e, f) })
		})
		check("sumGradRow", func(g bool, _ []float32, s, q []float64) {
			choose(g, func() { sumGradRow(s, q, b, c, d) }, func() { sumGradRowGeneric(s, q, b, c, d) })
		})
		check("maxRow", func(g bool, out []float32, _, _ []float64) {
			choose(g, func() { maxRow(out, b) }, func() { maxRowGeneric(out, b) })
		})
		check("averageRow", func(g bool, out []float32, _, _ []float64) {
			choose(g, func() { averageRow(out, b, 0.75, 0.3) }, func() { averageRowGeneric(out, b, 0.75, 0.3) })
		})
		second := [2][]float32{} // of two results
		for i, v := range b {
			if i%3 == 0 {
				c[i] = v // a maximum
			}
		}
		check("maxBackRow", func(g bool, out []float32, _, _ []float64) {
			left := clone(d)
			choose(g, func() { maxBackRow(out, left, b, c) }, func() { maxBackRowGeneric(out, left, b, c) })
			second[map[bool]int{true: 1}[g]] = left[:n+1]
		})
		if !slices.EqualFunc(second[0], second[1], same32) {
			t.Fatalf("maxBackRow of %d channels leaves other gradients than the portable version", n)
		}
		check("updateRow", func(g bool, out []float32, _, _ []float64) {
			buffer := clone(d)
			choose(g, func() { updateRow(out, buffer, b, 0.9, 0.1, 0.01, 0.3) }, func() { updateRowGeneric(out, buffer, b, 0.9, 0.1, 0.01, 0.3) })
			second[map[bool]int{true: 1}[g]] = buffer[:n+1]
		})
		if !slices.EqualFunc(second[0], second[1], same32) {
			t.Fatalf("updateRow of %d parameters leaves another momentum than the portable version", n)
		}
		var lengths [2][2][sumLanes]float64
		squareLengths(&lengths[0], b, d, 0.3)
		squareLengthsGeneric(&lengths[1], b, d, 0.3)
		for i := range lengths[0] {
			if !slices.EqualFunc(lengths[0][i][:], lengths[1][i][:], same64) {
				t.Fatalf("squareLengths of %d parameters differs from the portable version", n)
			}
		}
		if n > 0 {
			check("sumAndSquares", func(g bool, _ []float32, s, q []float64) {
				clear(s) // sums of a chunk start at 0
				clear(q)
				choose(g, func() { sumAndSquares(s, q, rows) }, func() { sumAndSquaresGeneric(s, q, rows) })
			})
		}
	}
}

// clone copies a row and the canary behind it.
func clone[T any](s []T) []T { return slices.Clone(s[:len(s)+1])[:len(s)] }

// same32 compares bits; all NaNs are the same.
func same32(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func same64(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

// TestNormsEqualPortable compares the loops of batch normalisation in assembly with rows of
// the portable ones, bit for bit, in float32 and in bfloat16.
func TestNormsEqualPortable(t *testing.T) {
	if !assembled(16) {
		t.Skip("no assembly for batch norms at this level")
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for _, c := range []int{16, 48, 80} {
		for _, rows := range []int{1, 2, 7} {
			for _, half := range []bool{false, true} {
				make32 := func(n int) []float32 {
					s := make([]float32, n)
					for i := range s {
						switch rng.IntN(12) {
						case 0:
							s[i] = float32(math.Copysign(0, float64(rng.IntN(2))-0.5))
						case 1:
							s[i] = float32(math.NaN())
						default:
							s[i] = float32(rng.NormFloat64())
						}
					}
					return s
				}
				some := func() values { // with what must not be touched behind
					s := make32(rows*c + 1)
					if !half {
						return values{floats: s[:rows*c]}
					}
					h := make([]uint16, len(s))
					gemm.Narrow(h, s)
					return values{halves: h[:rows*c]}
				}
				copyOf := func(v values) values {
					return values{slices.Clone(v.floats[:min(1, len(v.floats))*(rows*c+1)]), slices.Clone(v.halves[:min(1, len(v.halves))*(rows*c+1)])}.part(0, rows*c)
				}
				same := func(what string, got, want values) {
					t.Helper()
					if half {
						if !slices.Equal(got.halves[:rows*c+1], want.halves[:rows*c+1]) {
							t.Fatalf("%s of %d rows of %d bfloat16 differs from the portable version", what, rows, c)
						}
					} else if !slices.EqualFunc(got.floats[:rows*c+1], want.floats[:rows*c+1], same32) {
						t.Fatalf("%s of %d rows of %d float32 differs from the portable version", what, rows, c)
					}
				}
				x, y, dy := some(), some(), some()
				a, b, k2, mean := make32(c), make32(c), make32(c), make32(c)
				buffer := make([]float32, 4*c)

				got, want := make([]float64, 2*c), make([]float64, 2*c)
				normSums(got[:c], got[c:], x, c)
				for r := range rows {
					sumAndSquaresGeneric(want[:c], want[c:], x.load(buffer, r*c, (r+1)*c))
				}
				if !slices.EqualFunc(got, want, same64) {
					t.Fatalf("sums of %d rows of %d, bfloat16 %v, differ from the portable version", rows, c, half)
				}
				for _, relu := range []bool{false, true} {
					for _, residual := range []values{{}, dy} {
						out, ref := copyOf(y), copyOf(y)
						normApply(out, x, residual, a, b, relu)
						for r := range rows {
							var more []float32
							if residual.exist() {
								more = residual.load(buffer[c:2*c], r*c, (r+1)*c)
							}
							row := ref.room(buffer[2*c:3*c], r*c, (r+1)*c)
							scaleShiftRowGeneric(row, x.load(buffer[:c], r*c, (r+1)*c), more, a, b, relu)
							ref.store(row, r*c)
						}
						same("y", out, ref)
					}
				}
				for _, mask := range []values{{}, y} {
					clear(got)
					clear(want)
					out, ref := copyOf(dy), copyOf(dy)
					normBackwardSums(got[:c], got[c:], out, x, mask, mean)
					for r := range rows {
						grad := ref.load(buffer[:c], r*c, (r+1)*c)
						if mask.exist() {
							maskRowGeneric(grad, mask.load(buffer[c:2*c], r*c, (r+1)*c))
							ref.store(grad, r*c)
						}
						sumGradRowGeneric(want[:c], want[c:], grad, x.load(buffer[2*c:3*c], r*c, (r+1)*c), mean)
					}
					if !slices.EqualFunc(got, want, same64) {
						t.Fatalf("sums of gradients of %d rows of %d, bfloat16 %v, differ from the portable version", rows, c, half)
					}
					same("masked dy", out, ref)
				}
				out, ref := copyOf(y), copyOf(y)
				normBackward(out, dy, x, mean, a, b, k2)
				for r := range rows {
					row := ref.room(buffer[2*c:3*c], r*c, (r+1)*c)
					combineRowGeneric(row, dy.load(buffer[:c], r*c, (r+1)*c), x.load(buffer[c:2*c], r*c, (r+1)*c), mean, a, b, k2)
					ref.store(row, r*c)
				}
				same("dx", out, ref)
			}
		}
	}
}

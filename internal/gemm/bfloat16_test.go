package gemm

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestConversions compares the conversions, of any length, with those of single values,
// among them what is not finite, halves between two values, and the smallest.
func TestConversions(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	special := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), nan, math.MaxFloat32, 1e-45, 1e-39,
		math.Float32frombits(0x7fffffff), math.Float32frombits(0xff800001), math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000), math.Float32frombits(0x3f808001)}
	values := func(n int) []float32 {
		s := guarded(rng, n)
		for i := range s {
			if rng.IntN(3) == 0 {
				s[i] = special[rng.IntN(len(special))]
			} else {
				s[i] = math.Float32frombits(rng.Uint32())
			}
		}
		return s
	}
	for n := range 70 {
		a, b := values(n), values(n)
		half := make([][]uint16, 2)
		for i, s := range [][]float32{a, b} {
			half[i] = make([]uint16, n)
			Narrow(half[i], s)
			for j, v := range s {
				if half[i][j] != Round(v) {
					t.Fatalf("%x is narrowed to %x, want %x", math.Float32bits(v), half[i][j], Round(v))
				}
			}
		}
		wide, pairs, narrowed := guarded(rng, n), guarded(rng, n), guarded(rng, n)
		Widen(wide, half[0])
		Interleave(pairs, half[0], half[1])
		NarrowPairs(narrowed, a, b)
		for i := range n {
			if math.Float32bits(wide[i]) != uint32(half[0][i])<<16 {
				t.Fatalf("%x is widened to %x", half[0][i], math.Float32bits(wide[i]))
			}
			want := uint32(half[0][i]) | uint32(half[1][i])<<16
			if math.Float32bits(pairs[i]) != want || math.Float32bits(narrowed[i]) != want {
				t.Fatalf("%x and %x make the pairs %x and %x", half[0][i], half[1][i], math.Float32bits(pairs[i]), math.Float32bits(narrowed[i]))
			}
		}
		for _, s := range [][]float32{wide, pairs, narrowed} {
			checkGuards(t, "a result", s)
		}
	}
	for _, c := range []struct {
		x    float32
		want uint16
	}{{1, 0x3f80}, {1.00390625, 0x3f80}, {1.01171875, 0x3f82}, {math.MaxFloat32, 0x7f80}, {nan, 0x7fc0}} {
		if got := Round(c.x); got != c.want {
			t.Errorf("%v is rounded to %x, want %x", c.x, got, c.want)
		}
	}
}

// TestPairKernels compares the kernels for pairs with float64 sums of what they hold.
func TestPairKernels(t *testing.T) {
	k := BFloat16()
	if k == nil {
		t.Skip("this processor has no products of bfloat16 (AVX512_BF16), or PIXPRO_CPU leaves them out")
	}
	rng := rand.New(rand.NewPCG(7, 7))
	halves := func(n int) (pairs []float32, value func(place, of int) float64) {
		pairs = guarded(rng, n)
		exact := make([][2]float64, n)
		for i := range pairs {
			var h [2]uint16
			for j := range h {
				h[j] = Round(rng.Float32()*2 - 1)
				exact[i][j] = float64(math.Float32frombits(uint32(h[j]) << 16))
			}
			pairs[i] = pair(h[0], h[1])
		}
		return pairs, func(place, of int) float64 { return exact[place][of] }
	}
	for _, taps := range []int{1, 9} {
		for _, depth := range []int{1, 3, 4, 33, 288} {
			if testing.Short() && taps*depth > 100 {
				break
			}
			for _, tile := range [][2]int{{12, 32}, {8, 32}, {4, 32}, {5, 17}, {1, 1}} {
				m, n := tile[0], tile[1]
				a, va := halves(taps * k.MR * depth)
				b, vb := halves(taps * depth * k.NR)
				pa, vpa := halves(depth * k.MR)
				rows := make([]*float32, taps*k.MR)
				for i := range rows {
					rows[i] = &a[i*depth]
				}
				for _, accumulate := range []bool{false, true} {
					for _, kernel := range []string{"rows", "packed"} {
						c := guarded(rng, m*n)
						before := append([]float32(nil), c...)
						places := taps
						if kernel == "rows" {
							k.Rows(rows, taps, depth, b, c, n, m, n, accumulate)
						} else {
							places = 1
							k.Packed(depth, pa, b, c, n, m, n, accumulate)
						}
						for i := range m {
							for j := range n {
								var want, size float64
								if accumulate {
									want = float64(before[i*n+j])
								}
								for p := range places * depth {
									for of := range 2 {
										x := vpa(p%depth*k.MR+i, of)
										if kernel == "rows" {
											x = va((p/depth*k.MR+i)*depth+p%depth, of)
										}
										x *= vb(p*k.NR+j, of)
										want += x
										size += math.Abs(x)
									}
								}
								if got := float64(c[i*n+j]); !(math.Abs(got-want) <= 1e-6*(size+1)) {
									t.Fatalf("%s: %d taps of %d pairs, %d x %d: [%d,%d] is %v, want %v", kernel, taps, depth, m, n, i, j, got, want)
								}
							}
						}
						checkGuards(t, "C", c)
					}
				}
			}
		}
	}
}

// TestPackPairs packs rows by pointers, whole panels and parts of them.
func TestPackPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, width := range []int{16, 32} {
		for _, n := range []int{1, width - 1, width} {
			for _, pairs := range []int{0, 1, 9} {
				const offset = 3
				rows := make([]*uint16, 2*pairs)
				values := make([][]uint16, len(rows))
				for i := range rows {
					values[i] = make([]uint16, offset+n)
					for j := range values[i] {
						values[i][j] = uint16(rng.Uint32())
					}
					rows[i] = &values[i][0]
				}
				dst := guarded(rng, pairs*width)
				PackPairs(dst, rows, offset, n, width)
				for i := range dst {
					var want uint32
					if j := i % width; j < n {
						want = uint32(values[i/width*2][offset+j]) | uint32(values[i/width*2+1][offset+j])<<16
					}
					if got := math.Float32bits(dst[i]); got != want {
						t.Fatalf("%d of %d columns of %d pairs: place %d is %x, want %x", n, width, pairs, i, got, want)
					}
				}
				checkGuards(t, "a panel", dst)
			}
		}
	}
}

package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var nan = float32(math.NaN())

// guard is how many NaNs lie before and behind what kernels may touch: they spoil
// whatever reads them.
const guard = 64

// guarded is n random floats within guards.
func guarded(rng *rand.Rand, n int) []float32 {
	s := make([]float32, n+2*guard)
	for i := range s {
		s[i] = nan
	}
	for i := range n {
		s[guard+i] = rng.Float32()*2 - 1
	}
	return s[guard : guard+n]
}

// checkGuards fails if the guard behind a slice of guarded was written; the one before
// would be by a negative index, which no kernel has.
func checkGuards(t *testing.T, what string, s []float32) {
	t.Helper()
	for _, v := range s[len(s) : len(s)+guard] {
		if v == v {
			t.Fatalf("%s was written behind its end", what)
		}
	}
}

// checkKernels compares both kernels with a float64 sum, on a tile of m x n within
// guards.
func checkKernels(t *testing.T, k *Kernels, taps, depth, m, n int, accumulate bool, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	stride := depth + rng.IntN(3)
	memory := guarded(rng, (taps*k.MR-1)*stride+depth)
	rows := make([]*float32, taps*k.MR)
	for i := range rows {
		rows[i] = &memory[i*stride]
	}
	packed := guarded(rng, depth*k.MR)
	b := guarded(rng, taps*depth*k.NR)
	ldc := n + rng.IntN(3)
	before := guarded(rng, (m-1)*ldc+n)
	for _, kernel := range []string{"rows", "packed"} {
		c := guarded(rng, len(before))
		copy(c, before)
		a := func(i, tap, p int) float32 { return memory[(tap*k.MR+i)*stride+p] }
		places := taps
		if kernel == "rows" {
			k.Rows(rows, taps, depth, b, c, ldc, m, n, accumulate)
		} else {
			a = func(i, _, p int) float32 { return packed[p*k.MR+i] }
			places = 1
			k.Packed(depth, packed, b, c, ldc, m, n, accumulate)
		}
		for i := range m {
			for j := range ldc {
				at := i*ldc + j
				if at >= len(c) {
					break
				}
				if j >= n {
					if c[at] != before[at] {
						t.Fatalf("%s: what lies beside row %d was written", kernel, i)
					}
					continue
				}
				var want, size float64
				if accumulate {
					want = float64(before[at])
				}
				for tap := range places {
					for p := range depth {
						x := float64(a(i, tap, p)) * float64(b[(tap*depth+p)*k.NR+j])
						want += x
						size += math.Abs(x)
					}
				}
				if diff := math.Abs(float64(c[at]) - want); !(diff <= 1e-6*(size+1)) {
					t.Fatalf("%s: %d taps of %d, tile of %d x %d: C[%d,%d] is %v, want %v", kernel, taps, depth, m, n, i, j, c[at], want)
				}
			}
		}
		checkGuards(t, "C", c)
	}
}

func TestKernels(t *testing.T) {
	for _, impl := range implementations() {
		k := impl.kernels
		t.Run(impl.name, func(t *testing.T) {
			for i, taps := range []int{1, 2, 9, 49} {
				if k.Regular && taps > 1 {
					break
				}
				for j, depth := range []int{1, 2, 3, 4, 7, 64, 577} {
					if testing.Short() && taps*depth > 100 {
						break
					}
					for _, tile := range [][2]int{{k.MR, k.NR}, {1, 1}, {k.MR - 1, k.NR}, {k.MR, k.NR - 1}, {k.MR / 2, k.NR / 2}, {k.MR / 3, k.NR}, {2 * k.MR / 3, k.NR}} {
						for _, accumulate := range []bool{false, true} {
							checkKernels(t, k, taps, depth, tile[0], tile[1], accumulate, uint64(i*100+j))
						}
					}
				}
			}
		})
	}
}

// TestKernelsKeepNonFinite: infinities and NaNs of a row reach its results alone.
func TestKernelsKeepNonFinite(t *testing.T) {
	for _, impl := range implementations() {
		k := impl.kernels
		const depth = 9
		a, b := make([]float32, depth*k.MR), make([]float32, depth*k.NR)
		rows := make([]*float32, k.MR)
		for i := range rows {
			rows[i] = &a[i*depth]
		}
		for i := range b {
			b[i] = 1
		}
		a[depth+4], a[2*depth+8] = float32(math.Inf(1)), nan
		c := make([]float32, k.MR*k.NR)
		k.Rows(rows, 1, depth, b, c, k.NR, k.MR, k.NR, false)
		for i, v := range c {
			switch row := i / k.NR; {
			case row == 1 && !math.IsInf(float64(v), 1), row == 2 && v == v, row != 1 && row != 2 && v != 0:
				t.Fatalf("%s: row %d has %v", impl.name, row, v)
			}
		}
	}
}

// TestPack packs rows and columns, whole panels and parts of them.
func TestPack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int{5, 6, 12, 16, 32, 96} {
		for _, n := range []int{1, width / 2, width - 1, width} {
			for _, depth := range []int{1, 7, 8, 9, 64, 65, 131} {
				for _, transposed := range []bool{false, true} {
					ps, js := n+rng.IntN(9), 1
					if transposed {
						ps, js = 1, depth+rng.IntN(9)
					}
					src := guarded(rng, (depth-1)*ps+(n-1)*js+1)
					dst := guarded(rng, depth*width)
					Pack(dst, src, depth, n, width, ps, js)
					for p := range depth {
						for j := range width {
							var want float32
							if j < n {
								want = src[p*ps+j*js]
							}
							if dst[p*width+j] != want {
								t.Fatalf("width %d, %d of depth %d, transposed %v: [%d,%d] is %v, want %v", width, n, depth, transposed, p, j, dst[p*width+j], want)
							}
						}
					}
					checkGuards(t, "a panel", dst)
				}
			}
		}
	}
}

// TestPackPanels packs columns in panels, the last of which may be a part.
func TestPackPanels(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, width := range []int{5, 6, 12, 96} {
		for _, n := range []int{1, width, width + 1, 3 * width, 4*width - 1} {
			for _, depth := range []int{1, 2, 65} {
				stride, apart := n+rng.IntN(9), depth*width+rng.IntN(9)
				src, dst := guarded(rng, (depth-1)*stride+n), guarded(rng, (n+width-1)/width*apart)
				PackPanels(dst, src, depth, n, width, stride, apart)
				for j := range (n + width - 1) / width * width {
					for p := range depth {
						var want float32
						if j < n {
							want = src[p*stride+j]
						}
						if got := dst[j/width*apart+p*width+j%width]; got != want {
							t.Fatalf("%d columns of depth %d in panels of %d: [%d,%d] is %v, want %v", n, depth, width, p, j, got, want)
						}
					}
				}
				checkGuards(t, "a panel", dst)
			}
		}
	}
}

// FuzzMul multiplies matrices of any shape by all implementations.
func FuzzMul(f *testing.F) {
	f.Add(uint8(49), uint8(49), uint16(256), uint8(0))
	f.Add(uint8(13), uint8(33), uint16(1025), uint8(7))
	f.Fuzz(func(t *testing.T, m, n uint8, depth uint16, flags uint8) {
		rows, columns, places := int(m%50)+1, int(n%70)+1, int(depth%1100)+1
		for _, impl := range implementations() {
			checkMul(t, impl.mul, rows, columns, places, flags&1 != 0, flags&2 != 0, flags&4 != 0)
		}
	})
}

func BenchmarkKernels(b *testing.B) {
	impls := levels()
	if k := BFloat16(); k != nil {
		impls = append(impls, implementation{name: "pairs of bfloat16", kernels: k}) // twice the operations that are counted
	}
	for _, impl := range impls {
		k := impl.kernels
		for _, depth := range []int{64, 240, 576, 2320} {
			panel, a, rows := make([]float32, depth*k.NR), make([]float32, depth*k.MR), make([]*float32, k.MR)
			for i := range rows {
				rows[i] = &a[i*depth]
			}
			c := make([]float32, k.MR*k.NR)
			for name, run := range map[string]func(){
				"rows":   func() { k.Rows(rows, 1, depth, panel, c, k.NR, k.MR, k.NR, false) },
				"packed": func() { k.Packed(depth, a, panel, c, k.NR, k.MR, k.NR, false) },
			} {
				b.Run(fmt.Sprintf("%s/%s/%d", impl.name, name, depth), func(b *testing.B) {
					for b.Loop() {
						run()
					}
					b.ReportMetric(2*float64(k.MR*k.NR*depth)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}

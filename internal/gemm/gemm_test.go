package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// implementations are all that this build has on this machine.
func implementations() []implementation {
	impls := append(levels(), portable)
	if lib, err := openLibrary(""); err == nil {
		impls = append(impls, lib)
	}
	return impls
}

// TestMulEqualsFloat64Reference compares every implementation with a float64
// product on odd shapes, inside larger matrices whose other elements must stay.
func TestMulEqualsFloat64Reference(t *testing.T) {
	shapes := [][3]int{{1, 1, 1}, {4, 32, 7}, {5, 33, 9}, {3, 31, 300}, {197, 65, 17}, {13, 2100, 5}, {64, 48, 513}}
	for _, impl := range implementations() {
		for _, s := range shapes {
			if testing.Short() && s[0]*s[1]*s[2] > 300_000 {
				continue
			}
			for flags := range 8 {
				transA, transB, accumulate := flags&1 != 0, flags&2 != 0, flags&4 != 0
				t.Run(fmt.Sprintf("%s/%dx%dx%d/%v,%v,%v", impl.name, s[0], s[1], s[2], transA, transB, accumulate), func(t *testing.T) {
					checkMul(t, impl.mul, s[0], s[1], s[2], transA, transB, accumulate)
				})
			}
		}
	}
}

func checkMul(t *testing.T, mul mulFunc, m, n, k int, transA, transB, accumulate bool) {
	rng := rand.New(rand.NewPCG(uint64(m*n), uint64(k)))
	a, lda := randomMatrix(rng, m, k, transA)
	b, ldb := randomMatrix(rng, k, n, transB)
	whole, ldc := randomMatrix(rng, m+2, n, false) // two rows more than the product has
	c := whole[:(m-1)*ldc+n]
	before := slices.Clone(whole)
	mul(transA, transB, m, n, k, a, lda, b, ldb, accumulate, c, ldc)
	for i := range m + 2 {
		for j := range ldc {
			at := i*ldc + j
			if at >= len(whole) {
				continue
			}
			if i >= m || j >= n {
				if whole[at] != before[at] {
					t.Fatalf("the element in row %d, column %d of %d x %d was written", i, j, m, n)
				}
				continue
			}
			var want, size float64
			if accumulate {
				want = float64(before[at])
			}
			for p := range k {
				x := float64(element(a, i, p, lda, transA)) * float64(element(b, p, j, ldb, transB))
				want += x
				size += math.Abs(x)
			}
			if diff := math.Abs(float64(c[at]) - want); diff > 1e-6*(size+1) {
				t.Fatalf("C[%d,%d] = %v, want %v", i, j, c[at], want)
			}
		}
	}
}

func element(s []float32, row, col, stride int, transposed bool) float32 {
	if transposed {
		row, col = col, row
	}
	return s[row*stride+col]
}

// randomMatrix makes a matrix, or its transpose, with a stride beyond its row.
func randomMatrix(rng *rand.Rand, rows, cols int, transposed bool) ([]float32, int) {
	if transposed {
		rows, cols = cols, rows
	}
	stride := cols + rng.IntN(3)
	s := make([]float32, (rows-1)*stride+cols)
	for i := range s {
		s[i] = rng.Float32()*2 - 1
	}
	return s, stride
}

func TestMulOfNothing(t *testing.T) {
	c := []float32{1, 2}
	Mul(false, false, 1, 2, 0, nil, 0, nil, 2, true, c, 2)
	if c[0] != 1 || c[1] != 2 {
		t.Errorf("adding an empty product changed C to %v", c)
	}
	Mul(false, false, 1, 2, 0, nil, 0, nil, 2, false, c, 2)
	if c[0] != 0 || c[1] != 0 {
		t.Errorf("an empty product is %v, want zeros", c)
	}
	Mul(false, false, 0, 2, 3, nil, 3, make([]float32, 6), 2, false, nil, 2)
}

func TestMulRefusesShortSlices(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a slice too short for its shape was accepted")
		}
	}()
	Mul(false, false, 2, 2, 2, make([]float32, 3), 2, make([]float32, 4), 2, false, make([]float32, 4), 2)
}

func BenchmarkMul(b *testing.B) {
	for _, impl := range implementations() {
		for _, s := range [][3]int{{256, 512, 1152}, {784, 64, 576}, {49, 49, 256}, {196, 2048, 512}} {
			m, n, k := s[0], s[1], s[2]
			x, y, z := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
			b.Run(fmt.Sprintf("%s/%dx%dx%d", impl.name, m, n, k), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					impl.mul(false, true, m, n, k, x, k, y, k, false, z, n)
				}
				b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

package augment

import (
	"math"
	"testing"
)

// TestPhiloxKnownAnswers holds the philox4x64-10 lines of kat_vectors in
// Random123, the authors' own implementation.
func TestPhiloxKnownAnswers(t *testing.T) {
	const ones = math.MaxUint64
	for _, test := range []struct {
		name    string
		counter [4]uint64
		key     [2]uint64
		want    [4]uint64
	}{
		{
			"zeros", [4]uint64{}, [2]uint64{},
			[4]uint64{0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b},
		},
		{
			"ones", [4]uint64{ones, ones, ones, ones}, [2]uint64{ones, ones},
			[4]uint64{0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0},
		},
		{
			"digits of pi",
			[4]uint64{0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
			[2]uint64{0x452821e638d01377, 0xbe5466cf34e90c6c},
			[4]uint64{0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := philox4x64(test.counter, test.key); got != test.want {
				t.Errorf("got %x, want %x", got, test.want)
			}
		})
	}
}

// TestRandIsCounterBased checks where each draw comes from: a stored stream
// can be drawn again only as long as this does not change.
func TestRandIsCounterBased(t *testing.T) {
	const seed, epoch, index, view = 3, 1 << 40, 12345, 1
	r := NewRand(seed, epoch, index, view)
	for block := range uint64(3) {
		want := philox4x64([4]uint64{block, view, index, 0}, [2]uint64{seed, epoch})
		for i, w := range want {
			if got := r.Uint64(); got != w {
				t.Fatalf("draw %d of block %d is %x, want %x", i, block, got, w)
			}
		}
	}
}

func TestRandStreamsDiffer(t *testing.T) {
	first := map[uint64][4]uint64{}
	for seed := range uint64(3) {
		for epoch := range uint64(3) {
			for index := range uint64(100) {
				for view := range 2 {
					r := NewRand(seed, epoch, index, view)
					at := [4]uint64{seed, epoch, index, uint64(view)}
					v := r.Uint64()
					if other, ok := first[v]; ok {
						t.Fatalf("%v and %v draw the same", at, other)
					}
					first[v] = at
				}
			}
		}
	}
}

func TestRandRanges(t *testing.T) {
	r := NewRand(1, 2, 3, 0)
	for range 10_000 {
		if v := r.Float64(); v < 0 || v >= 1 {
			t.Fatalf("Float64 gives %v", v)
		}
		if v := r.Uniform(-2, 5); v < -2 || v > 5 {
			t.Fatalf("Uniform(-2, 5) gives %v", v)
		}
		if v := r.Uniform(7, 7); v != 7 {
			t.Fatalf("Uniform(7, 7) gives %v", v)
		}
		if v := r.IntN(1); v != 0 {
			t.Fatalf("IntN(1) gives %v", v)
		}
		if v := r.IntN(math.MaxInt); v < 0 {
			t.Fatalf("IntN(MaxInt) gives %v", v)
		}
		if r.Bool(0) || !r.Bool(1) {
			t.Fatal("Bool(0) or Bool(1) is left to chance")
		}
	}
}

func TestRandDistributions(t *testing.T) {
	t.Parallel()
	const draws = 60_000
	r := NewRand(20, 11, 10043, 0)
	t.Run("Float64", func(t *testing.T) {
		values := make([]float64, draws)
		for i := range values {
			values[i] = r.Float64()
		}
		checkDistribution(t, values, uniform(0, 1))
	})
	t.Run("IntN", func(t *testing.T) {
		counts := make([]int, 10)
		for range draws {
			counts[r.IntN(len(counts))]++
		}
		checkEven(t, counts)
	})
	t.Run("Perm4", func(t *testing.T) {
		counts := make([]int, 24)
		for range draws {
			counts[orderNumber(t, r.Perm4())]++
		}
		checkEven(t, counts)
	})
}

// orderNumber numbers the permutations of 0 … 3 from 0 to 23.
func orderNumber(t *testing.T, p [4]int) int {
	t.Helper()
	n, seen := 0, 0
	for i, v := range p {
		if v < 0 || v > 3 || seen&(1<<v) != 0 {
			t.Fatalf("%v is no permutation", p)
		}
		seen |= 1 << v
		smaller := 0
		for _, w := range p[i+1:] {
			if w < v {
				smaller++
			}
		}
		n = n*(4-i) + smaller
	}
	return n
}

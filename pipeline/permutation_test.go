package pipeline

import (
	"math"
	"slices"
	"testing"
)

func TestPermutationIsABijection(t *testing.T) {
	sizes := []int64{4095, 4096, 4097, 65_537, 1 << 20}
	for n := range int64(1000) {
		sizes = append(sizes, n+1)
	}
	for _, n := range sizes {
		p := newPermutation(n, 3, uint64(n%5))
		seen := make([]bool, n)
		for x := range n {
			y := p.at(x)
			if y >= n || seen[y] {
				t.Fatalf("n=%d: %d maps to %d, which is outside or taken", n, x, y)
			}
			if back := p.of(y); back != x {
				t.Fatalf("n=%d: %d maps to %d, and that back to %d", n, x, y, back)
			}
			seen[y] = true
		}
	}
}

func TestPermutationOfHugeDomains(t *testing.T) {
	for _, n := range []int64{1<<40 + 1, 1<<62 + 12345, 1<<63 - 1} {
		p := newPermutation(n, 1, 2)
		seen := map[int64]bool{}
		for x := range int64(10_000) {
			y := p.at(n - 1 - x)
			if y >= n || seen[y] {
				t.Fatalf("n=%d: %d maps to %d, which is outside or taken", n, n-1-x, y)
			}
			seen[y] = true
		}
	}
}

// Every place of a small domain is reached about equally often from every
// other one, over many epochs: a chi-squared test with a generous bound.
func TestPermutationIsUniform(t *testing.T) {
	for _, n := range []int64{3, 5, 10, 17} {
		const epochs = 20_000
		count := make([][]float64, n)
		for x := range count {
			count[x] = make([]float64, n)
		}
		for epoch := range uint64(epochs) {
			p := newPermutation(n, 11, epoch)
			for x := range n {
				count[x][p.at(x)]++
			}
		}
		expected := float64(epochs) / float64(n)
		chi := 0.0
		for _, line := range count {
			for _, c := range line {
				chi += (c - expected) * (c - expected) / expected
			}
		}
		// (n-1)^2 degrees of freedom: mean k, standard deviation sqrt(2k).
		k := float64((n - 1) * (n - 1))
		if limit := k + 8*math.Sqrt(2*k); chi > limit {
			t.Errorf("n=%d: chi-squared is %.0f, expected about %.0f", n, chi, k)
		}
	}
}

func TestPermutationDependsOnSeedAndEpoch(t *testing.T) {
	order := func(seed, epoch uint64) []int64 {
		p := newPermutation(100, seed, epoch)
		out := make([]int64, 100)
		for i := range out {
			out[i] = p.at(int64(i))
		}
		return out
	}
	if !slices.Equal(order(1, 2), order(1, 2)) {
		t.Error("the same seed and epoch give two orders")
	}
	for _, other := range [][2]uint64{{1, 3}, {2, 2}, {2, 1}} {
		if slices.Equal(order(1, 2), order(other[0], other[1])) {
			t.Errorf("seed and epoch %v give the order of 1, 2", other)
		}
	}
}

package cells

import (
	"math"
	"testing"
)

func TestPositiveByHand(t *testing.T) {
	whole := [4]float32{0, 0, 1, 1}
	flipped := [4]float32{1, 0, 0, 1}
	for _, c := range []struct {
		name string
		a, b [4]float32
		want []bool // 2 x 1 cells: left, right of a with left, right of b
	}{
		{"the same crop", whole, whole, []bool{true, false, false, true}},
		{"one flipped", whole, flipped, []bool{false, true, true, false}},
		{"both flipped", flipped, flipped, []bool{true, false, false, true}},
		{"no overlap", [4]float32{0, 0, 0.25, 0.25}, [4]float32{0.75, 0.75, 1, 1}, []bool{false, false, false, false}},
	} {
		mask := make([]bool, 4)
		// Centres lie 0.5 apart in x; a cell's diagonal is sqrt(0.25 + 1).
		n := Positive(mask, c.a, c.b, 1, 2, 0.4)
		count := 0
		for i, want := range c.want {
			if mask[i] != want {
				t.Errorf("%s: pair %d is positive: %v", c.name, i, mask[i])
			}
			if want {
				count++
			}
		}
		if n != count {
			t.Errorf("%s: %d positives, want %d", c.name, n, count)
		}
	}
}

func TestDistancesAreInUnitsOfTheLargerDiagonal(t *testing.T) {
	small, large := [4]float32{0, 0, 0.25, 0.25}, [4]float32{0, 0, 1, 1}
	Distances(small, large, 1, 1, func(i, j int, distance float64) {
		if want := math.Hypot(0.375, 0.375) / math.Hypot(1, 1); math.Abs(distance-want) > 1e-12 {
			t.Errorf("distance is %g, want %g", distance, want)
		}
	})
}

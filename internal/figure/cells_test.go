package figure

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
)

func TestPositiveCells(t *testing.T) {
	whole := augment.Coord{0, 0, 1, 1}
	flipped := augment.Coord{1, 0, 0, 1}
	for _, c := range []struct {
		name      string
		a, b      augment.Coord
		threshold float64
		want      [][4]int
	}{
		// 2 x 2 cells of half the image: side neighbours are 0.5/0.707 = 0.707
		// diagonals apart, so that 0.7 leaves each cell its equal alone.
		{"equal", whole, whole, 0.7, [][4]int{{0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {1, 1, 1, 1}}},
		{"flipped", whole, flipped, 0.7, [][4]int{{0, 0, 0, 1}, {0, 1, 0, 0}, {1, 0, 1, 1}, {1, 1, 1, 0}}},
		{"both flipped", flipped, flipped, 0.7, [][4]int{{0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {1, 1, 1, 1}}},
		{"neighbours count", whole, whole, 0.71, [][4]int{
			{0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 1, 0}, {0, 1, 0, 0}, {0, 1, 0, 1}, {0, 1, 1, 1},
			{1, 0, 0, 0}, {1, 0, 1, 0}, {1, 0, 1, 1}, {1, 1, 0, 1}, {1, 1, 1, 0}, {1, 1, 1, 1}}},
		// The right half against the whole: cell centres at x = 5/8, 7/8 and
		// 1/4, 3/4. The unit is the whole's diagonal, 0.707: a distance of 1/8
		// is 0.18, of 3/8 is 0.53, of 5/8 is 0.88.
		{"half", whole, augment.Coord{0.5, 0, 1, 1}, 0.5, [][4]int{{0, 1, 0, 0}, {0, 1, 0, 1}, {1, 1, 1, 0}, {1, 1, 1, 1}}},
		{"half, flipped", whole, augment.Coord{1, 0, 0.5, 1}, 0.6, [][4]int{
			{0, 0, 0, 1}, {0, 1, 0, 0}, {0, 1, 0, 1}, {1, 0, 1, 1}, {1, 1, 1, 0}, {1, 1, 1, 1}}},
		{"apart", augment.Coord{0, 0, 0.25, 0.25}, augment.Coord{0.75, 0.75, 1, 1}, 0.7, nil},
		{"one pixel", augment.Coord{}, augment.Coord{}, 0.7, nil},
	} {
		var got [][4]int
		for _, p := range PositiveCells(c.a, c.b, 2, 2, c.threshold) {
			got = append(got, [4]int{p.RowA, p.ColA, p.RowB, p.ColB})
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	half := PositiveCells(whole, augment.Coord{0.5, 0, 1, 1}, 2, 2, 0.5)
	if want := 0.125 / math.Sqrt(0.5); math.Abs(half[0].Distance-want) > 1e-7 {
		t.Errorf("distance %g, want %g", half[0].Distance, want)
	}
	// Three rows of two columns, one below the other.
	if got, want := len(PositiveCells(whole, whole, 3, 2, 0.5)), 6; got != want {
		// Rows are 1/3 apart and columns 1/2, the diagonal is 0.601: 0.55, 0.83.
		t.Errorf("%d pairs, want %d", got, want)
	}
}

func TestSample(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	coord := func() augment.Coord {
		x, y, w, h := rng.Float32()/2, rng.Float32()/2, 0.2+0.3*rng.Float32(), 0.2+0.3*rng.Float32()
		if rng.IntN(2) == 0 {
			return augment.Coord{x + w, y, x, y + h}
		}
		return augment.Coord{x, y, x + w, y + h}
	}
	several, matching := 0, 0
	for range 200 {
		pairs := PositiveCells(coord(), coord(), 6, 6, 0.7)
		chosen := sample(pairs, 6)
		if (len(chosen) == 0) != (len(pairs) == 0) || len(chosen) > 6 {
			t.Fatalf("%d of %d pairs chosen", len(chosen), len(pairs))
		}
		if len(chosen) >= 3 {
			several++
		}
		if len(pairs) > 0 {
			matching++
		}
		for i, p := range chosen {
			for _, q := range chosen[:i] {
				sharedA, sharedB := p.RowA == q.RowA && p.ColA == q.ColA, p.RowB == q.RowB && p.ColB == q.ColB
				if sharedA || sharedB || p.RowA == q.RowA && p.RowB == q.RowB {
					t.Fatalf("%v and %v share a cell, or their rows", p, q)
				}
			}
			for _, q := range pairs {
				if q.RowA == p.RowA && q.ColA == p.ColA && q.Distance < p.Distance {
					t.Fatalf("%v was chosen, %v is closer", p, q)
				}
			}
		}
	}
	if several < matching*2/3 {
		t.Errorf("of %d cases with matching cells, %d show 3 pairs or more", matching, several)
	}
	// On equal grids every cell goes with its equal; the first is a corner,
	// the second the opposite one.
	whole := augment.Coord{0, 0, 1, 1}
	want := []CellPair{{0, 0, 0, 0, 0}, {5, 5, 5, 5, 0}}
	if diff := cmp.Diff(want, sample(PositiveCells(whole, whole, 6, 6, 0.7), 2)); diff != "" {
		t.Error(diff)
	}
}

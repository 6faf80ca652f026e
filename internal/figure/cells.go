package figure

import (
	"math"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/cells"
)

// CellPair is a cell of view a and one of view b that show nearly the same
// place of the image.
type CellPair struct {
	RowA, ColA, RowB, ColB int
	// Distance between the cells' centres, in units of the larger of the two
	// views' cell diagonals, all measured in fractions of the image.
	Distance float64
}

// PositiveCells returns the pairs of cells, of two views cut into rows x cols
// cells, whose distance is below the threshold: the positive pairs of PixPro
// (section 3.1 of the paper). Their order is that of view a's cells, then view
// b's, row by row.
func PositiveCells(a, b augment.Coord, rows, cols int, threshold float64) []CellPair {
	var pairs []CellPair
	cells.Distances(a, b, rows, cols, func(i, j int, distance float64) {
		if distance < threshold {
			pairs = append(pairs, CellPair{i / cols, i % cols, j / cols, j % cols, distance})
		}
	})
	return pairs
}

// sample chooses up to n pairs to draw, which lie well apart, share no cell and
// do not join the same two rows: first the closest, then each time the one
// whose cell of view a is farthest from all chosen. pairs are in the order of
// PositiveCells.
func sample(pairs []CellPair, n int) []CellPair {
	pairs = nearest(pairs)
	var chosen []CellPair
	for len(chosen) < n {
		best := -1
		bestApart, bestDistance := 0.0, math.Inf(1)
		for i, p := range pairs {
			apart := math.Inf(1)
			for _, c := range chosen {
				apart = min(apart, separation(p, c))
			}
			if apart > bestApart || apart > 0 && apart == bestApart && p.Distance < bestDistance {
				best, bestApart, bestDistance = i, apart, p.Distance
			}
		}
		if best < 0 {
			break // no pair left can be told from the chosen ones
		}
		chosen = append(chosen, pairs[best])
	}
	return chosen
}

// nearest keeps the closest pair of each cell of view a.
func nearest(pairs []CellPair) []CellPair {
	var kept []CellPair
	for _, p := range pairs { // in the order of view a's cells
		n := len(kept)
		switch {
		case n == 0 || kept[n-1].RowA != p.RowA || kept[n-1].ColA != p.ColA:
			kept = append(kept, p)
		case p.Distance < kept[n-1].Distance:
			kept[n-1] = p
		}
	}
	return kept
}

// separation says how well two pairs can be told apart when drawn: 0 if they
// share a cell of view b, or if their lines would lie on one another.
func separation(p, q CellPair) float64 {
	if p.RowB == q.RowB && (p.ColB == q.ColB || p.RowA == q.RowA) {
		return 0
	}
	return math.Hypot(float64(p.RowA-q.RowA), float64(p.ColA-q.ColA))
}

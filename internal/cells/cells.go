// Package cells says where the cells of a feature map lie in the image that its
// view was cut from, and which cells of two views show the same place.
//
// A view's coordinates (x0, y0, x1, y1) are those of augment.Coord: fractions of
// the image, x0 at the left edge of the view, so that x0 > x1 where it was flipped.
// Cells divide the view evenly and are counted row by row.
package cells

import "math"

// Grid is the cells of a view in fractions of the image.
type Grid struct {
	x0, y0        float64 // upper left corner of the view
	width, height float64 // of a cell; the width is negative in a flipped view
}

// NewGrid divides the view with the coordinates c into rows x cols cells.
func NewGrid(c [4]float32, rows, cols int) Grid {
	return Grid{
		x0: float64(c[0]), y0: float64(c[1]),
		width:  (float64(c[2]) - float64(c[0])) / float64(cols),
		height: (float64(c[3]) - float64(c[1])) / float64(rows),
	}
}

// Centre returns the centre of a cell. The conversions keep compilers from fusing
// multiplication and addition: where distances equal a threshold, all machines
// must decide alike.
func (g Grid) Centre(row, col int) (x, y float64) {
	return g.x0 + float64((float64(col)+0.5)*g.width), g.y0 + float64((float64(row)+0.5)*g.height)
}

func (g Grid) diagonal() float64 { return hypotenuse(g.width, g.height) }

// Distances calls visit for every cell i of view a and j of view b, each divided
// into rows x cols cells, with the distance of their centres in units of the
// larger of the two cell diagonals.
func Distances(a, b [4]float32, rows, cols int, visit func(i, j int, distance float64)) {
	ga, gb := NewGrid(a, rows, cols), NewGrid(b, rows, cols)
	unit := max(ga.diagonal(), gb.diagonal())
	for i := range rows * cols {
		xa, ya := ga.Centre(i/cols, i%cols)
		for j := range rows * cols {
			xb, yb := gb.Centre(j/cols, j%cols)
			visit(i, j, hypotenuse(xa-xb, ya-yb)/unit)
		}
	}
}

// Positive sets mask[i*rows*cols+j] for the cells whose distance is below the
// threshold (section 3.1 of the paper), clears it for the others, and returns how
// many are set. mask has (rows*cols)^2 elements.
func Positive(mask []bool, a, b [4]float32, rows, cols int, threshold float64) int {
	count := 0
	Distances(a, b, rows, cols, func(i, j int, distance float64) {
		near := distance < threshold
		mask[i*rows*cols+j] = near
		if near {
			count++
		}
	})
	return count
}

// hypotenuse is sqrt(x^2 + y^2), kept from fusing like Centre.
func hypotenuse(x, y float64) float64 {
	return math.Sqrt(float64(x*x) + float64(y*y))
}

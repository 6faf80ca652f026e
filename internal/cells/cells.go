// Package cells relates the cells of two feature maps by where they lie in the
// image.
package cells

import "math"

// Distances calls visit for every cell i of a and j of b with the distance of
// their centres in units of the larger of the two cell diagonals. a and b are
// the coordinates (x0, y0, x1, y1) of two crops, each divided into rows x cols
// cells; cells are counted row by row.
func Distances(a, b [4]float32, rows, cols int, visit func(i, j int, distance float64)) {
	ga, gb := newGrid(a, rows, cols), newGrid(b, rows, cols)
	unit := max(ga.diagonal(), gb.diagonal())
	for i := range rows * cols {
		xa, ya := ga.centre(i/cols, i%cols)
		for j := range rows * cols {
			xb, yb := gb.centre(j/cols, j%cols)
			visit(i, j, hypotenuse(xa-xb, ya-yb)/unit)
		}
	}
}

// Positive sets mask[i*rows*cols+j] for the cells whose distance is below the
// threshold (section 3.1 of the paper), and returns how many there are. mask
// has (rows*cols)^2 elements.
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

type grid struct{ x0, y0, width, height float64 }

func newGrid(c [4]float32, rows, cols int) grid {
	return grid{
		x0: float64(c[0]), y0: float64(c[1]),
		width:  (float64(c[2]) - float64(c[0])) / float64(cols),
		height: (float64(c[3]) - float64(c[1])) / float64(rows),
	}
}

func (g grid) centre(row, col int) (x, y float64) {
	return g.x0 + float64((float64(col)+0.5)*g.width), g.y0 + float64((float64(row)+0.5)*g.height)
}

func (g grid) diagonal() float64 { return hypotenuse(g.width, g.height) }

// hypotenuse is sqrt(x^2 + y^2). The conversions keep compilers from fusing
// operations, which would decide otherwise where a distance equals a threshold.
func hypotenuse(x, y float64) float64 {
	return math.Sqrt(float64(x*x) + float64(y*y))
}

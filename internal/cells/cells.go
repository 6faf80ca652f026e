// Package cells relates the cells of two feature maps by where they lie in the
// image.
package cells

import "math"

// Positive sets mask[i*rows*cols+j] for every cell i of a and j of b whose
// centres are nearer than threshold times the larger of the two cell
// diagonals, and returns how many there are. a and b are the coordinates (x0,
// y0, x1, y1) of two crops, each divided into rows x cols cells; mask has
// (rows*cols)^2 elements.
func Positive(mask []bool, a, b [4]float32, rows, cols int, threshold float64) int {
	ga, gb := newGrid(a, rows, cols), newGrid(b, rows, cols)
	diagonal := max(ga.diagonal(), gb.diagonal())
	n := rows * cols
	count := 0
	for i := range n {
		xa, ya := ga.centre(i/cols, i%cols)
		for j := range n {
			xb, yb := gb.centre(j/cols, j%cols)
			dx, dy := xa-xb, ya-yb
			// The conversions keep compilers from fusing: results decide at equality.
			near := math.Sqrt(float64(dx*dx)+float64(dy*dy))/diagonal < threshold
			mask[i*n+j] = near
			if near {
				count++
			}
		}
	}
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

func (g grid) diagonal() float64 {
	return math.Sqrt(float64(g.width*g.width) + float64(g.height*g.height))
}

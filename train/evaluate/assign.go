package evaluate

import (
	"errors"
	"math"
)

// Assign solves the assignment problem: for each row of cost, rows x cols with
// rows <= cols, a column of its own, so that the sum of the costs is least. It
// is the Hungarian method with shortest augmenting paths (Jonker and Volgenant
// 1987), in O(rows^2 cols) steps. Costs must be finite.
func Assign(cost []float64, rows, cols int) ([]int, error) {
	switch {
	case rows < 0 || rows > cols:
		return nil, errors.New("evaluate: assignment: there must be as many columns as rows, or more")
	case len(cost) != rows*cols:
		return nil, errors.New("evaluate: assignment: the costs are not rows x columns")
	}
	for _, c := range cost {
		if math.IsNaN(c) || math.IsInf(c, 0) {
			return nil, errors.New("evaluate: assignment: a cost is not finite")
		}
	}
	// Potentials u, v with cost - u - v >= 0, and = 0 for what is assigned.
	u, v := make([]float64, rows), make([]float64, cols)
	rowOf := make([]int, cols) // -1: free
	for j := range rowOf {
		rowOf[j] = -1
	}
	distance, previous, done := make([]float64, cols), make([]int, cols), make([]bool, cols)
	for start := range rows {
		// Dijkstra's shortest path from row start to a free column.
		for j := range cols {
			distance[j], previous[j], done[j] = math.Inf(1), -1, false
		}
		row, from, reached := start, -1, 0.0
		end := -1
		for end < 0 {
			next := -1
			for j := range cols {
				if done[j] {
					continue
				}
				if d := reached + cost[row*cols+j] - u[row] - v[j]; d < distance[j] {
					distance[j], previous[j] = d, from
				}
				if next < 0 || distance[j] < distance[next] {
					next = j
				}
			}
			done[next], reached, from = true, distance[next], next
			if row = rowOf[next]; row < 0 {
				end = next
			}
		}
		u[start] += reached
		for j := range cols {
			if done[j] && j != end {
				u[rowOf[j]] += reached - distance[j]
				v[j] -= reached - distance[j]
			}
		}
		for j := end; j >= 0; j = previous[j] {
			if previous[j] < 0 {
				rowOf[j] = start
			} else {
				rowOf[j] = rowOf[previous[j]]
			}
		}
	}
	assigned := make([]int, rows)
	for j, row := range rowOf {
		if row >= 0 {
			assigned[row] = j
		}
	}
	return assigned, nil
}

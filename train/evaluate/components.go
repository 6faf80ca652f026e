package evaluate

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// Components projects points on their first count principal components: Len x
// count values. A component's sign is such that the largest of its entries is
// positive. ratios are the parts of the variance that the components explain.
// Where the points span fewer dimensions, the rest of a row is 0.
func Components(points Points, count int) (projected, ratios []float64, err error) {
	n, dim := points.Len(), points.Dim
	if n < 2 {
		return nil, nil, fmt.Errorf("evaluate: principal components of %d points: at least 2 are needed", n)
	}
	data := mat.NewDense(n, dim, nil)
	mean := make([]float64, dim)
	for i := range n {
		for j, v := range points.At(i) {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, nil, errors.New("evaluate: principal components: a feature is not finite")
			}
			data.Set(i, j, float64(v))
			mean[j] += float64(v) / float64(n)
		}
	}
	var pc stat.PC
	if !pc.PrincipalComponents(data, nil) {
		return nil, nil, errors.New("evaluate: the singular value decomposition for principal components failed")
	}
	var axes mat.Dense
	pc.VectorsTo(&axes)
	variances := pc.VarsTo(nil)
	total := 0.0
	for _, v := range variances {
		total += v
	}
	projected, ratios = make([]float64, n*count), make([]float64, count)
	for c := range min(count, len(variances)) {
		axis := mat.Col(nil, c, &axes)
		sign, largest := 1.0, 0.0
		for _, v := range axis {
			if math.Abs(v) > largest {
				largest, sign = math.Abs(v), math.Copysign(1, v)
			}
		}
		if total > 0 {
			ratios[c] = variances[c] / total
		}
		for i := range n {
			sum := 0.0
			for j, v := range points.At(i) {
				sum += (float64(v) - mean[j]) * axis[j]
			}
			projected[i*count+c] = sign * sum
		}
	}
	return projected, ratios, nil
}

// normalize divides each point by its length; one without length stays.
func normalize(p Points) {
	for i := range p.Len() {
		row := p.At(i)
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		if sum == 0 {
			continue
		}
		scale := 1 / math.Sqrt(sum)
		for j, v := range row {
			row[j] = float32(float64(v) * scale)
		}
	}
}

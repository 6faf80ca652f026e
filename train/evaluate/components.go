package evaluate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Components projects points on their first count principal components: Len x
// count values. A component's sign is such that the largest of its entries is
// positive. ratios are the parts of the variance that the components explain.
// Where the points span fewer dimensions, the rest of a row is 0.
//
// The components are found by subspace iteration (Halko, Martinsson and Tropp
// 2011, section 4.5), whose time is that of the few that are wanted. Where
// variances hardly differ, the last of maxIterations is taken.
func Components(ctx context.Context, points Points, count int) (projected, ratios []float64, err error) {
	if err := points.check(); err != nil {
		return nil, nil, err
	}
	n, dim := points.Len(), points.Dim
	if n < 2 || count < 1 {
		return nil, nil, fmt.Errorf("evaluate: %d principal components of %d points: at least 1 of 2 are needed", count, n)
	}
	// In relation to the first point, so that equal points have no spread at all.
	first, mean := points.At(0), make([]float64, dim)
	for i, v := range points.Values {
		mean[i%dim] += (float64(v) - float64(first[i%dim])) / float64(n)
	}
	data := mat.NewDense(n, dim, nil)
	total := 0.0
	for i := range n {
		row := data.RawRowView(i)
		for j, v := range points.At(i) {
			row[j] = float64(v) - float64(first[j]) - mean[j]
			total += row[j] * row[j]
		}
	}
	projected, ratios = make([]float64, n*count), make([]float64, count)
	axes, variances, err := principalAxes(ctx, data, count)
	if err != nil {
		return nil, nil, err
	}
	for c, variance := range variances {
		if variance <= axisTolerance*variances[0] {
			break // rounding: the points span no more dimensions
		}
		axis := mat.Col(nil, c, axes)
		sign, largest := 1.0, 0.0
		for _, v := range axis {
			if math.Abs(v) > largest {
				largest, sign = math.Abs(v), math.Copysign(1, v)
			}
		}
		ratios[c] = variance / total
		for i := range n {
			projected[i*count+c] = sign * floats.Dot(data.RawRowView(i), axis)
		}
	}
	return projected, ratios, nil
}

// The subspace has spare more dimensions than are wanted, for which the
// iteration converges faster. It ends when no wanted variance changes by more
// than the part axisTolerance of the largest; directions are then right to about
// its root.
const (
	spareAxes     = 9
	maxIterations = 100
	axisTolerance = 1e-13
)

// principalAxes finds the directions (columns) along which centred points
// (rows) spread most, at most count, and the sums of squares along them.
func principalAxes(ctx context.Context, data *mat.Dense, count int) (*mat.Dense, []float64, error) {
	n, dim := data.Dims()
	count = min(count, n, dim)
	block := min(count+spareAxes, n, dim)
	rng := rand.New(rand.NewPCG(0, 0))
	axes := mat.NewDense(dim, block, nil)
	for i := range dim {
		for j := range block {
			axes.Set(i, j, rng.NormFloat64())
		}
	}
	variances := make([]float64, count)
	for range maxIterations {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		// What the covariance makes of the last axes: its principal directions.
		var along, spread mat.Dense
		along.Mul(data, axes)
		spread.Mul(data.T(), &along)
		var svd mat.SVD
		if !svd.Factorize(&spread, mat.SVDThinU) {
			return nil, nil, errors.New("evaluate: principal components: the singular value decomposition failed")
		}
		svd.UTo(axes)
		values := svd.Values(nil)
		settled := true
		for c, v := range values[:count] {
			if math.Abs(v-variances[c]) > axisTolerance*values[0] {
				settled = false
			}
			variances[c] = v
		}
		if settled {
			break
		}
	}
	return axes, variances, nil
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

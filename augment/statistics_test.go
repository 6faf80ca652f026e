package augment

import (
	"math"
	"slices"
	"testing"
)

// Significance of the tests of distributions. Seeds are fixed, so that they
// give the same verdict every time; one in a thousand right seeds would fail.

// checkDistribution is the Kolmogorov-Smirnov test of values against a
// cumulative distribution.
func checkDistribution(t *testing.T, values []float64, cumulative func(float64) float64) {
	t.Helper()
	sorted := slices.Sorted(slices.Values(values))
	n := float64(len(sorted))
	distance := 0.0
	for i, v := range sorted {
		p := cumulative(v)
		distance = max(distance, p-float64(i)/n, float64(i+1)/n-p)
	}
	if critical := 1.95 / math.Sqrt(n); !(distance <= critical) {
		t.Errorf("Kolmogorov-Smirnov distance of %d values is %.5f, want at most %.5f", len(values), distance, critical)
	}
}

// uniform is the cumulative distribution of the uniform one.
func uniform(low, high float64) func(float64) float64 {
	return func(v float64) float64 { return min(max((v-low)/(high-low), 0), 1) }
}

// checkCounts is the chi-square test of counts against probabilities. A
// probability of zero allows no count at all.
func checkCounts(t *testing.T, counts []int, probabilities []float64) {
	t.Helper()
	total := 0
	for _, c := range counts {
		total += c
	}
	statistic, freedom := 0.0, -1
	for i, p := range probabilities {
		if p == 0 {
			if counts[i] > 0 {
				t.Errorf("%d counts of what cannot happen: %v", counts[i], counts)
			}
			continue
		}
		expected := p * float64(total)
		d := float64(counts[i]) - expected
		statistic += d * d / expected
		freedom++
	}
	if freedom == 0 {
		return
	}
	// Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal.
	k := 2 / (9 * float64(freedom))
	const normal = 3.09 // exceeded once in a thousand
	critical := float64(freedom) * math.Pow(1-k+normal*math.Sqrt(k), 3)
	if !(statistic <= critical) {
		t.Errorf("chi-square of %v is %.2f, want at most %.2f", counts, statistic, critical)
	}
}

func checkEven(t *testing.T, counts []int) {
	t.Helper()
	p := make([]float64, len(counts))
	for i := range p {
		p[i] = 1 / float64(len(counts))
	}
	checkCounts(t, counts, p)
}

// checkProbability tests how often something happened.
func checkProbability(t *testing.T, what string, happened, of int, p float64) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		checkCounts(t, []int{happened, of - happened}, []float64{p, 1 - p})
	})
}

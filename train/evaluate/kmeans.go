package evaluate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/seed-436d2970/pixpro/internal/parallel"
)

// Points are the rows of a matrix of float32.
type Points struct {
	Values []float32 // Len x Dim
	Dim    int
}

// Len is the number of points.
func (p Points) Len() int { return len(p.Values) / p.Dim }

// At is a point.
func (p Points) At(i int) []float32 { return p.Values[i*p.Dim : (i+1)*p.Dim] }

// check refuses points that nothing can be computed of.
func (p Points) check() error {
	if p.Dim < 1 || len(p.Values) == 0 || len(p.Values)%p.Dim != 0 {
		return fmt.Errorf("evaluate: %d values are no points of %d dimensions", len(p.Values), p.Dim)
	}
	for i, v := range p.Values {
		if d := v - v; d != 0 { // not a number, or infinite
			return fmt.Errorf("evaluate: point %d has the value %v", i/p.Dim, v)
		}
	}
	return nil
}

// Clusters are the result of k-means.
type Clusters struct {
	Centres    []float64 // K x Dim
	Labels     []int     // of each point
	Inertia    float64   // sum of the squared distances to the centres
	Iterations int
}

// KMeansOptions say how to cluster.
type KMeansOptions struct {
	K          int
	Seed       uint64
	Restarts   int // the best of so many starts is taken
	Iterations int // at most, for each start; 0: until nothing changes
	Workers    int
	// Listener is told of Progress before every iteration of a start, as far as
	// Iterations bound it.
	Listener Listener
}

// KMeans clusters points by Lloyd's algorithm from centres chosen by k-means++
// (Arthur and Vassilvitskii 2007), until no point changes its cluster.
func KMeans(ctx context.Context, points Points, opts KMeansOptions) (*Clusters, error) {
	if err := points.check(); err != nil {
		return nil, err
	}
	if opts.K < 1 || points.Len() < opts.K {
		return nil, fmt.Errorf("evaluate: %d points in %d clusters: there must be at least one point for each cluster", points.Len(), opts.K)
	}
	var best *Clusters
	for restart := range max(1, opts.Restarts) {
		rng := rand.New(rand.NewPCG(opts.Seed, uint64(restart)))
		step := func(iteration int) {
			opts.Listener.Tell(Progress{"k-means", int64(restart*opts.Iterations + iteration), int64(opts.Restarts * opts.Iterations)})
		}
		centres, err := choose(ctx, points, opts.K, rng, opts.Workers)
		if err != nil {
			return nil, err
		}
		c, err := lloyd(ctx, points, centres, opts, step)
		if err != nil {
			return nil, err
		}
		if best == nil || c.Inertia < best.Inertia {
			best = c
		}
	}
	return best, nil
}

// choose draws centres: the first evenly, the others with probabilities as
// their squared distances from the nearest so far.
func choose(ctx context.Context, points Points, k int, rng *rand.Rand, workers int) ([]float64, error) {
	n, dim := points.Len(), points.Dim
	centres := make([]float64, 0, k*dim)
	nearest := make([]float64, n)
	for i := range nearest {
		nearest[i] = math.Inf(1)
	}
	pick := rng.IntN(n)
	for {
		for _, v := range points.At(pick) {
			centres = append(centres, float64(v))
		}
		if len(centres) == k*dim {
			return centres, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		last := centres[len(centres)-dim:]
		chunks(n, workers, func(_, from, to int) {
			for i := from; i < to; i++ {
				nearest[i] = min(nearest[i], squaredDistance(points.At(i), last))
			}
		})
		total := 0.0
		for _, d := range nearest {
			total += d
		}
		left := rng.Float64() * total
		for i, d := range nearest {
			if d > 0 { // also the last one where rounding leaves something over
				pick = i
			}
			if left -= d; left < 0 {
				break
			}
		}
	}
}

// lloyd moves centres to the means of their points and points to their nearest
// centres until nothing changes. A centre without points moves to the point
// that is farthest from its own centre, as scikit-learn does.
func lloyd(ctx context.Context, points Points, centres []float64, opts KMeansOptions, step func(iteration int)) (*Clusters, error) {
	n, dim := points.Len(), points.Dim
	k := len(centres) / dim
	c := &Clusters{Centres: centres, Labels: make([]int, n)}
	for i := range c.Labels {
		c.Labels[i] = -1
	}
	distances := make([]float64, n)
	parts := (n + chunkSize - 1) / chunkSize
	changed := make([]int, parts)
	sums := make([]float64, parts*k*dim)
	counts := make([]int, k)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		step(c.Iterations)
		chunks(n, opts.Workers, func(part, from, to int) {
			changed[part] = 0
			for i := from; i < to; i++ {
				label, distance := closest(points.At(i), c.Centres)
				if label != c.Labels[i] {
					c.Labels[i] = label
					changed[part]++
				}
				distances[i] = distance
			}
		})
		moved := 0
		for _, m := range changed {
			moved += m
		}
		if moved == 0 || opts.Iterations > 0 && c.Iterations == opts.Iterations {
			break
		}
		c.Iterations++

		clear(sums)
		chunks(n, opts.Workers, func(part, from, to int) {
			for i := from; i < to; i++ {
				sum := sums[(part*k+c.Labels[i])*dim:][:dim]
				for j, v := range points.At(i) {
					sum[j] += float64(v)
				}
			}
		})
		clear(counts)
		for _, label := range c.Labels {
			counts[label]++
		}
		total := sums[:k*dim]
		for part := 1; part < parts; part++ {
			for j, v := range sums[part*k*dim : (part+1)*k*dim] {
				total[j] += v
			}
		}
		relocate(points, total, counts, c.Labels, distances)
		for i := range total {
			if count := counts[i/dim]; count > 0 {
				c.Centres[i] = total[i] / float64(count)
			}
		}
	}
	for _, d := range distances {
		c.Inertia += d
	}
	return c, nil
}

// relocate gives each empty cluster the point farthest from its centre.
func relocate(points Points, sums []float64, counts, labels []int, distances []float64) {
	dim := points.Dim
	taken := map[int]bool{}
	for cluster, count := range counts {
		if count > 0 {
			continue
		}
		farthest := -1
		for i, d := range distances {
			if !taken[i] && counts[labels[i]] > 1 && (farthest < 0 || d > distances[farthest]) {
				farthest = i
			}
		}
		if farthest < 0 {
			return
		}
		taken[farthest] = true
		from := labels[farthest]
		for j, v := range points.At(farthest) {
			sums[from*dim+j] -= float64(v)
			sums[cluster*dim+j] = float64(v)
		}
		counts[from]--
		counts[cluster] = 1
	}
}

// closest is the nearest centre, the first of equals, and its squared distance.
func closest(p []float32, centres []float64) (label int, distance float64) {
	distance = math.Inf(1)
	for c := range len(centres) / len(p) {
		if d := squaredDistance(p, centres[c*len(p):]); d < distance {
			label, distance = c, d
		}
	}
	return label, distance
}

func squaredDistance(p []float32, q []float64) float64 {
	q = q[:len(p)]
	var even, odd float64 // two chains of additions run side by side
	i := 0
	for ; i+1 < len(p); i += 2 {
		a, b := float64(p[i])-q[i], float64(p[i+1])-q[i+1]
		even += a * a
		odd += b * b
	}
	if i < len(p) {
		a := float64(p[i]) - q[i]
		even += a * a
	}
	return even + odd
}

// chunkSize is how many points a goroutine takes at a time. Sums are made by
// chunk, so that they do not depend on the number of goroutines.
const chunkSize = 4096

// chunks calls body for each part of [0, n).
func chunks(n, workers int, body func(part, from, to int)) {
	parallel.For((n+chunkSize-1)/chunkSize, workers, func(part int) {
		body(part, part*chunkSize, min(n, (part+1)*chunkSize))
	})
}

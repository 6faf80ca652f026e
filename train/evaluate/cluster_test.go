package evaluate

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKMeansIsTheSameForAnyNumberOfGoroutines(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	p := Points{make([]float32, 3*(2*chunkSize+17)), 3}
	for i := range p.Values {
		p.Values[i] = float32(rng.NormFloat64())
	}
	var first *Clusters
	for workers := 1; workers <= 4; workers++ {
		c, err := KMeans(t.Context(), p, KMeansOptions{K: 5, Restarts: 2, Iterations: 20, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = c
		} else if diff := cmp.Diff(first, c); diff != "" {
			t.Fatalf("with %d goroutines:\n%s", workers, diff)
		}
	}
}

func noise(rng *rand.Rand, points, dim int) Points {
	p := Points{make([]float32, points*dim), dim}
	for i := range p.Values {
		p.Values[i] = float32(rng.NormFloat64())
	}
	return p
}

// TestKMeansTakesTheBestStart by its seed.
func TestKMeansTakesTheBestStart(t *testing.T) {
	p := noise(rand.New(rand.NewPCG(4, 4)), 300, 2)
	run := func(seed uint64, restarts int) *Clusters {
		t.Helper()
		c, err := KMeans(t.Context(), p, KMeansOptions{K: 8, Seed: seed, Restarts: restarts, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if !cmp.Equal(run(3, 1), run(3, 1)) {
		t.Error("the same seed gives other clusters")
	}
	results := map[float64]bool{}
	for seed := range uint64(6) {
		one, many := run(seed, 1), run(seed, 10)
		results[one.Inertia] = true
		if many.Inertia > one.Inertia {
			t.Errorf("seed %d: the best of 10 starts has inertia %g, the first %g", seed, many.Inertia, one.Inertia)
		}
	}
	if len(results) < 4 {
		t.Errorf("6 seeds end in %d results", len(results))
	}
	var steps []Event
	_, err := KMeans(t.Context(), p, KMeansOptions{K: 8, Restarts: 2, Iterations: 3, Workers: 1, Listener: func(e Event) { steps = append(steps, e) }})
	if err != nil || len(steps) != 8 || steps[7] != Event(Progress{"k-means", 6, 6}) {
		t.Errorf("2 starts of 3 iterations report %v (%v)", steps, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := KMeans(ctx, p, KMeansOptions{K: 8}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFirstCentresAreKMeansPlusPlus: the first evenly, the others by the square
// of the distance.
func TestFirstCentresAreKMeansPlusPlus(t *testing.T) {
	p := Points{[]float32{0, 1, 3, 3}, 1}
	const draws = 6000
	first, second := map[float64]float64{}, map[float64]float64{} // second: after 0
	for seed := range uint64(draws) {
		c, err := choose(t.Context(), p, 2, rand.New(rand.NewPCG(seed, 0)), 1)
		if err != nil {
			t.Fatal(err)
		}
		first[c[0]] += 1. / draws
		if c[0] == 0 {
			second[c[1]]++
		}
		if c[1] == c[0] {
			t.Fatalf("seed %d draws %g twice", seed, c[0])
		}
	}
	if diff := cmp.Diff(map[float64]float64{0: 0.25, 1: 0.25, 3: 0.5}, first, near(0.03)); diff != "" {
		t.Errorf("first centres (-want +got):\n%s", diff)
	}
	total := second[1] + second[3]
	if got, want := second[1]/total, 1./(1+9+9); math.Abs(got-want) > 0.02 {
		t.Errorf("after 0, 1 is drawn in %.3f of the cases, want %.3f", got, want)
	}
}

// rowOf makes an image of one row, of as many classes as vectors.
func rowOf(vectors ...[]float32) (*Features, []Mask) {
	f := &Features{Rows: 1, Cols: len(vectors), Channels: len(vectors[0])}
	m := Mask{Width: len(vectors), Height: 1}
	for i, v := range vectors {
		f.Values = append(f.Values, v...)
		m.Classes = append(m.Classes, uint8(i/2))
	}
	return f, []Mask{m}
}

func TestClusterNormalizesOrNot(t *testing.T) {
	for _, c := range []struct {
		name            string
		vectors         [][]float32
		normalized, raw float64
	}{
		{"directions differ", [][]float32{{1, 0}, {50, 0}, {0, 1}, {0, 50}}, 1, 0.75},
		// Raw centres of one direction: only by their lengths is 10 not also the
		// nearest to 1.
		{"lengths differ", [][]float32{{1, 0.1}, {1, -0.1}, {10, 0.1}, {10, -0.1}}, 0.75, 1},
	} {
		for _, normalize := range []bool{false, true} {
			f, masks := rowOf(c.vectors...)
			s, err := Cluster(t.Context(), f, masks, 2, ClusterOptions{KMeansOptions: KMeansOptions{K: 2, Restarts: 20, Workers: 1}, Normalize: normalize})
			if err != nil {
				t.Fatal(err)
			}
			want := c.raw
			if normalize {
				want = c.normalized
			}
			if s.Accuracy != want {
				t.Errorf("%s, normalized %v: accuracy %g, want %g", c.name, normalize, s.Accuracy, want)
			}
		}
	}
}

func TestClustersThatAreLeftOver(t *testing.T) {
	// Rows are classes, columns clusters; there is no class 2 and 3.
	overlap := NewConfusion(4)
	for class, counts := range [][]int64{{5, 9, 0, 2}, {6, 0, 1, 3}} {
		for cluster, n := range counts {
			overlap.Add(class, cluster, n)
		}
	}
	classOf, err := matchClusters(overlap, 2)
	if err != nil {
		t.Fatal(err)
	}
	// 9 + 6 is the best matching: clusters 1 and 0; 2 and 3 have more of class 1.
	if diff := cmp.Diff([]int{1, 0, 1, 1}, classOf); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestClustersOfFeaturesThatAreNearlyAlike, as those of an encoder that has
// collapsed: what k-means tells apart must not get lost in the scores.
func TestClustersOfFeaturesThatAreNearlyAlike(t *testing.T) {
	const spread = 1e-4
	rng := rand.New(rand.NewPCG(2, 3))
	f := &Features{Rows: 1, Cols: 200, Channels: 4}
	m := Mask{Width: 200, Height: 1}
	for i := range f.Cols {
		class := i / 100
		for range f.Channels {
			f.Values = append(f.Values, float32(0.5+spread*(float64(class)+0.1*rng.NormFloat64())))
		}
		m.Classes = append(m.Classes, uint8(class))
	}
	s, err := Cluster(t.Context(), f, []Mask{m}, 2, ClusterOptions{KMeansOptions: KMeansOptions{K: 2, Restarts: 5, Workers: 1}})
	if err != nil || s.Accuracy != 1 {
		t.Errorf("accuracy %g (%v), want 1", s.Accuracy, err)
	}
}

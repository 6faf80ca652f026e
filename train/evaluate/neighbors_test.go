package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeighborsLeaveThePointItselfOut(t *testing.T) {
	// Points 0 and 1 lie together with different classes, so do 2 and 3.
	p := Points{[]float32{1, 0, 1, 0.01, 0, 1, 0.01, 1}, 2}
	got, err := Neighbors(t.Context(), p, []int{0, 1, 2, 3}, nil, NeighborsOptions{K: 1, Temperature: 0.07, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 0, 3, 2}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Neighbors(t.Context(), p, []int{0, 1, 2, 3}, nil, NeighborsOptions{K: 4, Temperature: 1}); err == nil {
		t.Error("4 neighbours among 3 others are taken")
	}
}

// TestNeighborsOfManyBlocks compares points of several blocks with the nearest
// others by definition.
func TestNeighborsOfManyBlocks(t *testing.T) {
	const n, dim = chunkSize + 150, 3
	p := noise(rand.New(rand.NewPCG(1, 2)), n, dim)
	labels := make([]int, n)
	for i := range labels {
		labels[i] = i
	}
	got, err := Neighbors(t.Context(), p, labels, nil, NeighborsOptions{K: 1, Temperature: 1, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	u := unit(p)
	for _, i := range []int{0, 1, 63, 64, 65, 200, chunkSize - 1, chunkSize, n - 1} {
		nearest, top := 0, math.Inf(-1)
		for j := range n {
			if c := dot(u.At(i), u.At(j)); j != i && c > top {
				nearest, top = j, c
			}
		}
		if c := dot(u.At(i), u.At(got[i])); got[i] == i || math.Abs(c-top) > 1e-6 {
			t.Errorf("the nearest to point %d is %d (%g), want %d (%g)", i, got[i], c, nearest, top)
		}
	}
}

// TestNeighborsVoteAtAnyTemperature: votes neither vanish nor overflow.
func TestNeighborsVoteAtAnyTemperature(t *testing.T) {
	for _, c := range []struct {
		points []float32
		labels []int
		want   int
	}{
		{[]float32{0, 1, 0.1, 1, -1, 0}, []int{1, 2, 3}, 2},    // far away
		{[]float32{1, 0.5, 1, 0.4, 1, 0.3}, []int{0, 1, 2}, 2}, // all near
	} {
		query := Points{[]float32{1, 0}, 2}
		got, err := Neighbors(t.Context(), Points{c.points, 2}, c.labels, &query, NeighborsOptions{K: 3, Temperature: 1e-5, Workers: 1})
		if err != nil || !cmp.Equal(got, []int{c.want}) {
			t.Errorf("of %v: predicted %v (%v), the nearest is of class %d", c.points, got, err, c.want)
		}
	}
}

func TestPointsThatAreNone(t *testing.T) {
	fine := Points{[]float32{1, 2, 3, 4}, 2}
	for _, bad := range []Points{{}, {[]float32{1}, 0}, {[]float32{1, 2, 3}, 2}, {[]float32{1, float32(math.NaN())}, 2}, {[]float32{1, float32(math.Inf(1))}, 1}} {
		if _, err := KMeans(t.Context(), bad, KMeansOptions{K: 1}); err == nil {
			t.Errorf("KMeans takes %v", bad)
		}
		if _, _, err := Components(t.Context(), bad, 1); err == nil {
			t.Errorf("Components takes %v", bad)
		}
		if _, err := Neighbors(t.Context(), bad, []int{0, 0}, nil, NeighborsOptions{K: 1, Temperature: 1}); err == nil {
			t.Errorf("Neighbors takes %v", bad)
		}
		if _, err := Neighbors(t.Context(), fine, []int{0, 0}, &bad, NeighborsOptions{K: 1, Temperature: 1}); err == nil {
			t.Errorf("Neighbors takes queries %v", bad)
		}
	}
	for _, labels := range [][]int{nil, {0}, {0, -1}, {0, 0, 0}} {
		if _, err := Neighbors(t.Context(), fine, labels, nil, NeighborsOptions{K: 1, Temperature: 1}); err == nil {
			t.Errorf("Neighbors takes labels %v of 2 points", labels)
		}
	}
	if _, _, err := Components(t.Context(), fine, -1); err == nil {
		t.Error("Components takes a count of -1")
	}
}

package evaluate

import (
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

// TestNeighborsVoteAtAnyTemperature: far neighbours vote too, however small
// their votes are.
func TestNeighborsVoteAtAnyTemperature(t *testing.T) {
	p := Points{[]float32{0, 1, 0.1, 1, -1, 0}, 2}
	query := Points{[]float32{1, 0}, 2}
	got, err := Neighbors(t.Context(), p, []int{1, 2, 3}, &query, NeighborsOptions{K: 3, Temperature: 1e-5, Workers: 1})
	if err != nil || !cmp.Equal(got, []int{2}) {
		t.Errorf("predicted %v (%v), the nearest is of class 2", got, err)
	}
}

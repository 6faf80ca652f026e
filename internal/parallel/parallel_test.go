package parallel

import (
	"sync/atomic"
	"testing"
)

func TestForCallsEveryIndexOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 1000} {
		for _, workers := range []int{1, 2, 8} {
			calls := make([]atomic.Int32, n)
			For(n, workers, func(i int) { calls[i].Add(1) })
			for i := range calls {
				if got := calls[i].Load(); got != 1 {
					t.Fatalf("%d of %d workers: index %d was called %d times", n, workers, i, got)
				}
			}
		}
	}
}

// TestWorkersHaveMemoryOfTheirOwn lets every worker use an unguarded counter,
// which the race detector watches.
func TestWorkersHaveMemoryOfTheirOwn(t *testing.T) {
	const n, workers = 1000, 4
	var counts [workers]int
	ForWorker(n, workers, func(worker, _ int) { counts[worker]++ })
	sum := 0
	for _, c := range counts {
		sum += c
	}
	if sum != n {
		t.Errorf("workers counted %d calls, want %d", sum, n)
	}
}

package parallel

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
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

// TestLoopsAtOnce has loops within loops, from several goroutines, with pauses in which
// helpers end.
func TestLoopsAtOnce(t *testing.T) {
	var calls atomic.Int64
	var outer sync.WaitGroup
	for range 4 {
		outer.Go(func() {
			for round := range 200 {
				For(5, 3, func(int) {
					For(7, 4, func(int) { calls.Add(1) })
				})
				if round%50 == 0 {
					time.Sleep(2 * patience)
				}
			}
		})
	}
	outer.Wait()
	if got := calls.Load(); got != 4*200*5*7 {
		t.Errorf("%d calls, want %d", got, 4*200*5*7)
	}
}

// TestHelpersEnd: what has nothing to do is gone soon.
func TestHelpersEnd(t *testing.T) {
	For(100, 8, func(int) {})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		left := len(idle)
		mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d helpers wait for ever", left)
		}
	}
}

func BenchmarkFor(b *testing.B) {
	for b.Loop() {
		For(2, 2, func(int) {})
	}
}

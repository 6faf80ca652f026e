// Package parallel splits loops over a bounded number of goroutines.
package parallel

import (
	"sync"
	"sync/atomic"
)

// For calls body(i) for every i in [0, n) from at most workers goroutines,
// the calling one among them, and returns when all calls have. Which
// goroutine runs which i is not determined: a result that must not depend on
// it belongs to i alone.
func For(n, workers int, body func(i int)) {
	ForWorker(n, workers, func(_, i int) { body(i) })
}

// ForWorker is For with the number of the goroutine, in [0, workers), as the
// first argument, so that each can have scratch memory of its own.
func ForWorker(n, workers int, body func(worker, i int)) {
	workers = min(workers, n)
	if workers <= 1 {
		for i := range n {
			body(0, i)
		}
		return
	}
	var next atomic.Int64
	run := func(worker int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			body(worker, i)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { run(w) })
	}
	run(0)
	wg.Wait()
}

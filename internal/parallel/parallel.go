// Package parallel splits loops over a bounded number of goroutines.
//
// Loops of a training step follow one another closely, and a goroutine that has to be
// woken comes a tenth of a millisecond late, which in small loops is a good part of the
// time. So the goroutines of a loop look for the next one for a while before they end.
package parallel

import (
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a goroutine looks for something to do, or for the others' end.
const patience = 100 * time.Microsecond

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
	l := &loop{n: n, body: body, over: make(chan struct{}, 1)}
	l.awaited.Store(-1)
	for range workers - 1 {
		assign(l)
	}
	l.run(0)
	l.wait()
}

// loop is a call of ForWorker.
type loop struct {
	n      int
	body   func(worker, i int)
	next   atomic.Int64
	joined atomic.Int64 // goroutines beside the calling one; far below 0 once there is nothing left
	done   atomic.Int64 // of those

	awaited atomic.Int64 // what done will be at the end, once it is known
	over    chan struct{}
}

// closed is what joined is at least that far below.
const closed = -1 << 40

func (l *loop) run(worker int) {
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.n {
			return
		}
		l.body(worker, i)
	}
}

// join runs the loop beside others, unless it has ended.
func (l *loop) join() {
	if worker := l.joined.Add(1); worker > 0 {
		l.run(int(worker))
		if l.done.Add(1) == l.awaited.Load() {
			l.over <- struct{}{}
		}
	}
}

// wait waits for those that have joined, and lets nobody join any more.
func (l *loop) wait() {
	joined := l.joined.Swap(closed)
	l.awaited.Store(joined)
	for start := time.Now(); l.done.Load() < joined; {
		if time.Since(start) > patience {
			<-l.over
			return
		}
	}
}

// helper is a goroutine that runs loops.
type helper struct{ loop atomic.Pointer[loop] }

var (
	mu   sync.Mutex
	idle []*helper // the last is the one that was busy last
)

// assign gives a loop to an idle helper, or to a new one.
func assign(l *loop) {
	mu.Lock()
	if last := len(idle) - 1; last >= 0 {
		idle[last].loop.Store(l)
		idle = idle[:last]
		mu.Unlock()
		return
	}
	mu.Unlock()
	h := &helper{}
	h.loop.Store(l)
	go h.work()
}

func (h *helper) work() {
	for l := h.loop.Swap(nil); l != nil; l = h.next() {
		l.join()
	}
}

// next waits for a loop; nil if none came in time.
func (h *helper) next() *loop {
	mu.Lock()
	idle = append(idle, h)
	mu.Unlock()
	for start := time.Now(); time.Since(start) < patience; {
		if h.loop.Load() != nil {
			return h.loop.Swap(nil)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, other := range idle {
		if other == h {
			idle = append(idle[:i], idle[i+1:]...)
			return nil
		}
	}
	return h.loop.Swap(nil) // which came just now
}

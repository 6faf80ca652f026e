package evaluate

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seed-436d2970/pixpro/internal/event"
)

// Event is something that happened: Progress, or one of package pipeline's where
// pairs of views are drawn.
type Event = event.Event

// Listener is told of events, never by two goroutines at once. nil listens to
// none.
type Listener = event.Listener

// Progress is how much of a part of an evaluation is done.
type Progress struct {
	What        string // such as "run: features"
	Done, Total int64
}

func (p Progress) String() string { return fmt.Sprintf("%s: %d of %d", p.What, p.Done, p.Total) }

// of is l for parts of what is evaluated under a name.
func of(l Listener, name string) Listener {
	return func(e Event) {
		if p, ok := e.(Progress); ok {
			p.What = name + ": " + p.What
			e = p
		}
		l.Tell(e)
	}
}

// counter returns what counts one of n things done. It may be called from
// several goroutines; while one of them is heard, others count in silence.
func counter(l Listener, what string, n int) func() {
	var (
		done  atomic.Int64
		heard sync.Mutex
	)
	return func() {
		now := done.Add(1)
		if now == int64(n) {
			heard.Lock()
		} else if !heard.TryLock() {
			return
		}
		defer heard.Unlock()
		l.Tell(Progress{what, now, int64(n)})
	}
}

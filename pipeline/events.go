package pipeline

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Event is something that happened on the way: a BadSample.
type Event interface{ event() }

// BadSample says that a sample could not be read or decoded. Its batch is
// shorter by it.
type BadSample struct {
	Epoch int64
	Index int64  // row in the dataset
	Key   string // empty if even that could not be read
	Err   error
}

func (BadSample) event() {}

func (b BadSample) String() string {
	return fmt.Sprintf("epoch %d: sample %d (%s): %v", b.Epoch, b.Index, b.Key, b.Err)
}

// TooManyBadError ends a stream with more unreadable samples than
// Config.MaxBad allows.
type TooManyBadError struct {
	Epoch   int64
	Bad     int64 // of the epoch's samples so far
	Samples int64 // of the epoch
	Last    BadSample
}

func (e *TooManyBadError) Error() string {
	return fmt.Sprintf("pipeline: epoch %d: %d of %d samples are bad, more than allowed; the last: sample %d (%s): %v",
		e.Epoch, e.Bad, e.Samples, e.Last.Index, e.Last.Key, e.Last.Err)
}

func (e *TooManyBadError) Unwrap() error { return e.Last.Err }

// Stats counts what a pipeline did since Open. Times of several goroutines add
// up.
type Stats struct {
	Pairs   int64 // handed out
	Batches int64 // handed out
	Bad     int64 // samples left out
	Workers int   // goroutines that decode and augment

	Read   time.Duration // reading encoded images and checking them
	Decode time.Duration // decoding them
	Views  time.Duration // drawing and making views

	// Who waits for whom: workers for images to be read, Next for a batch to be
	// completed, and the pipeline for the consumer to release a batch.
	WorkersWait  time.Duration
	ConsumerWait time.Duration
	BatchWait    time.Duration
}

// counters are what Stats is read from.
type counters struct {
	pairs, batches, bad                  atomic.Int64
	read, decode, views                  stopwatch
	workersWait, consumerWait, batchWait stopwatch
}

type stopwatch struct{ nanoseconds atomic.Int64 }

// lap adds the time since start and returns now.
func (s *stopwatch) lap(start time.Time) time.Time {
	now := time.Now()
	s.nanoseconds.Add(int64(now.Sub(start)))
	return now
}

func (s *stopwatch) total() time.Duration { return time.Duration(s.nanoseconds.Load()) }

// Stats may be called at any time from any goroutine.
func (p *Pipeline) Stats() Stats {
	c := &p.stats
	return Stats{
		Pairs:        c.pairs.Load(),
		Batches:      c.batches.Load(),
		Bad:          c.bad.Load(),
		Workers:      p.cfg.Workers,
		Read:         c.read.total(),
		Decode:       c.decode.total(),
		Views:        c.views.total(),
		WorkersWait:  c.workersWait.total(),
		ConsumerWait: c.consumerWait.total(),
		BatchWait:    c.batchWait.total(),
	}
}

package pipeline

import (
	"sync/atomic"
	"time"
)

// Stats counts what a pipeline did since Open. Times of several goroutines add
// up.
type Stats struct {
	Elapsed time.Duration
	Pairs   int64 // handed out
	Batches int64 // handed out
	Bad     int64 // samples left out
	Readers int   // goroutines that read
	Workers int   // goroutines that decode and augment

	Read   time.Duration // reading encoded images and checking them
	Decode time.Duration // decoding them
	Views  time.Duration // drawing and making views
	Batch  time.Duration // completing record batches, on the consumer's goroutine

	// Who waits for whom: readers for room in the workers' queue, workers for
	// images to be read, Next for a batch to be completed, and the pipeline for
	// the consumer to release a batch.
	ReadersWait  time.Duration
	WorkersWait  time.Duration
	ConsumerWait time.Duration
	BatchWait    time.Duration

	ReadQueue  Queue // samples to be read
	ViewQueue  Queue // images to be decoded and augmented
	BatchQueue Queue // batches begun that Next did not begin to wait for
}

// Queue is how full a queue is.
type Queue struct {
	Len, Cap   int   // now
	sum, taken int64 // of lengths when something was taken out, and how often
}

// Mean is the mean length when something was taken out.
func (q Queue) Mean() float64 { return float64(q.sum) / float64(max(q.taken, 1)) }

func (q Queue) since(before Queue) Queue {
	q.sum -= before.sum
	q.taken -= before.taken
	return q
}

// Since is what was done since before, an earlier reading of the same pipeline.
func (s Stats) Since(before Stats) Stats {
	s.Elapsed -= before.Elapsed
	s.Pairs -= before.Pairs
	s.Batches -= before.Batches
	s.Bad -= before.Bad
	s.Read -= before.Read
	s.Decode -= before.Decode
	s.Views -= before.Views
	s.Batch -= before.Batch
	s.ReadersWait -= before.ReadersWait
	s.WorkersWait -= before.WorkersWait
	s.ConsumerWait -= before.ConsumerWait
	s.BatchWait -= before.BatchWait
	s.ReadQueue = s.ReadQueue.since(before.ReadQueue)
	s.ViewQueue = s.ViewQueue.since(before.ViewQueue)
	s.BatchQueue = s.BatchQueue.since(before.BatchQueue)
	return s
}

// PairsPerSecond is the speed since Open.
func (s Stats) PairsPerSecond() float64 { return float64(s.Pairs) / s.Elapsed.Seconds() }

// Stage is a part of the pipeline or what follows it.
type Stage string

const (
	StageRead     Stage = "read"
	StageDecode   Stage = "decode"
	StageViews    Stage = "views"
	StageConsumer Stage = "consumer"
)

// Bottleneck is the stage that the others wait for: what to make faster first.
// It is the consumer if the pipeline waits longer for it to release batches than
// it waits for batches; reading if the workers wait longer for images than they
// work; otherwise the longer part of the workers' work.
func (s Stats) Bottleneck() Stage {
	switch {
	case s.BatchWait > s.ConsumerWait:
		return StageConsumer
	case s.WorkersWait > s.Decode+s.Views:
		return StageRead
	case s.Decode > s.Views:
		return StageDecode
	}
	return StageViews
}

// counters are what Stats is read from.
type counters struct {
	pairs, batches, bad                               atomic.Int64
	read, decode, views, batch                        stopwatch
	readersWait, workersWait, consumerWait, batchWait stopwatch
	readQueue, viewQueue, batchQueue                  gauge
}

type stopwatch struct{ nanoseconds atomic.Int64 }

// lap adds the time since start and returns now.
func (s *stopwatch) lap(start time.Time) time.Time {
	now := time.Now()
	s.nanoseconds.Add(int64(now.Sub(start)))
	return now
}

func (s *stopwatch) total() time.Duration { return time.Duration(s.nanoseconds.Load()) }

// gauge is the mean of a queue's length.
type gauge struct{ sum, count atomic.Int64 }

func (g *gauge) sample(length int) {
	g.sum.Add(int64(length))
	g.count.Add(1)
}

func queue[T any](c chan T, g *gauge) Queue {
	return Queue{Len: len(c), Cap: cap(c), sum: g.sum.Load(), taken: g.count.Load()}
}

// Stats may be called at any time from any goroutine.
func (p *Pipeline) Stats() Stats {
	c := &p.stats
	return Stats{
		Elapsed:      time.Since(p.opened),
		Pairs:        c.pairs.Load(),
		Batches:      c.batches.Load(),
		Bad:          c.bad.Load(),
		Readers:      readers,
		Workers:      p.cfg.Workers,
		Read:         c.read.total(),
		Decode:       c.decode.total(),
		Views:        c.views.total(),
		Batch:        c.batch.total(),
		ReadersWait:  c.readersWait.total(),
		WorkersWait:  c.workersWait.total(),
		ConsumerWait: c.consumerWait.total(),
		BatchWait:    c.batchWait.total(),
		ReadQueue:    queue(p.toRead, &c.readQueue),
		ViewQueue:    queue(p.toMake, &c.viewQueue),
		BatchQueue:   queue(p.batches, &c.batchQueue),
	}
}

package pipeline

import (
	"fmt"
	"os"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

var _ array.RecordReader = (*Pipeline)(nil)

// Schema is the schema of all records: see the function Schema.
func (p *Pipeline) Schema() *arrow.Schema { return p.schema }

// Next waits for the next record batch and reports whether there is one. The
// record before is released.
func (p *Pipeline) Next() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseRecord()
	for p.err == nil && !p.ended {
		b := p.receive()
		if b == nil {
			return false
		}
		p.complete(b)
		if p.ended || p.err != nil {
			p.cancel()
		}
		if p.record != nil {
			return true
		}
	}
	return false
}

// Record is the present record batch, valid until the next call of Next unless
// it is retained. What is retained counts among Config.Batches.
func (p *Pipeline) Record() arrow.Record { return p.record }

// Err is why Next returned false, nil at the end of the stream.
func (p *Pipeline) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Position is where a stream continues after the records handed out so far.
func (p *Pipeline) Position() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.position
}

// Retain adds a reference to the pipeline.
func (p *Pipeline) Retain() { p.refs.Add(1) }

// Release drops a reference; the last one closes the pipeline.
func (p *Pipeline) Release() {
	if p.refs.Add(-1) == 0 {
		p.Close()
	}
}

// receive waits for the next batch to be done. It returns nil when there is
// none, and says why in ended or err.
func (p *Pipeline) receive() *batch {
	if p.closed {
		p.err = fmt.Errorf("pipeline: %w", os.ErrClosed)
		return nil
	}
	start := time.Now()
	defer p.stats.consumerWait.lap(start)
	p.stats.batchQueue.sample(len(p.batches))
	if p.waiting == nil {
		b, ok := <-p.batches // closed at the end and on cancellation
		if !ok {
			if p.err = p.ctx.Err(); p.err == nil {
				p.ended = true
			}
			return nil
		}
		p.waiting = b
	}
	select {
	case <-p.waiting.done:
		b := p.waiting
		p.waiting = nil
		return b
	case <-p.ctx.Done():
		p.err = p.ctx.Err()
		return nil
	}
}

// complete makes the record of a batch of which all slots are done. There is
// none if no pair is left of it or if the stream must end; otherwise the
// record takes over the slab.
func (p *Pipeline) complete(b *batch) {
	start := time.Now()
	defer p.stats.batch.lap(start)
	rows, used, err := p.compact(b)
	if err != nil {
		p.err = err
		p.pool.put(b.slab)
		return
	}
	p.position = p.plan.normal(Position{Epoch: b.epoch, Offset: b.offset + int64(used), Bad: p.epochBad})
	if rows == 0 {
		p.pool.put(b.slab)
	} else {
		p.record = p.builder.build(b, rows, p.viewStride())
		p.stats.batches.Add(1)
		p.ended = p.stats.pairs.Add(int64(rows)) == p.cfg.Limit
	}
	if p.position.Epoch != b.epoch {
		p.cfg.Listener.Tell(EpochEnd{Epoch: b.epoch, Bad: p.epochBad, Stats: p.Stats()})
		p.epochBad = 0
	}
}

// compact moves a batch's pairs together where samples are bad, up to the
// stream's limit. It returns the number of pairs and of the slots that they
// came from.
func (p *Pipeline) compact(b *batch) (rows, used int, err error) {
	for i := range b.slots {
		s := &b.slots[i]
		if s.fatal {
			return 0, 0, fmt.Errorf("pipeline: %w", s.err)
		}
		if s.err != nil {
			if err := p.bad(b, s); err != nil {
				return 0, 0, err
			}
			continue
		}
		if rows != i {
			b.slots[rows] = *s
			for v := range 2 {
				copy(p.pixels(b, v, rows), p.pixels(b, v, i))
			}
		}
		rows++
		if p.stats.pairs.Load()+int64(rows) == p.cfg.Limit {
			return rows, i + 1, nil
		}
	}
	return rows, len(b.slots), nil
}

// bad reports a bad sample, and stops the stream if there are too many.
func (p *Pipeline) bad(b *batch, s *slot) error {
	event := BadSample{Epoch: b.epoch, Index: s.sample.Index, Key: s.sample.Key, Err: s.err}
	p.epochBad++
	p.stats.bad.Add(1)
	p.cfg.Listener.Tell(event)
	if p.epochBad > p.cfg.maxBad(p.plan.length) {
		return &TooManyBadError{Epoch: b.epoch, Bad: p.epochBad, Samples: p.plan.length, Last: event}
	}
	return nil
}

func (p *Pipeline) releaseRecord() {
	if p.record != nil {
		p.record.Release()
		p.record = nil
	}
}

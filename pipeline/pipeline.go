package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"golang.org/x/sync/semaphore"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/shards"
)

// readers is the number of goroutines that read encoded images. More than one
// lets the disk work on the next image while another one's checksum is
// computed.
const readers = 2

const (
	// Encoded images of more than largeImage bytes, of which there are few, share a
	// bound: so many bytes for each worker, and together at least those of the
	// largest image that shards may have.
	largeImage                    = 1 << 20
	workerEncoded, encodedAtLeast = 16 << 20, 64 << 20
)

// Pipeline is a stream of record batches. It implements array.RecordReader,
// for one consumer.
type Pipeline struct {
	cfg     Config
	plan    plan
	schema  *arrow.Schema
	builder *recordBuilder
	pool    *pool
	memory  *decoding.Memory    // of images being decoded
	large   *semaphore.Weighted // bytes of large encoded images
	room    int64               // of large
	stats   counters
	opened  time.Time

	// What starts, bounds and stops the goroutines: see start.
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	batches chan *batch // in order
	toRead  chan job
	toMake  chan job

	refs atomic.Int64

	mu       sync.Mutex // held by Next and Close
	closed   bool
	waiting  *batch // received and not completed
	record   arrow.Record
	position Position
	epochBad int64 // bad samples of position.Epoch
	ended    bool
	err      error
}

// batch is a record batch in the making.
type batch struct {
	epoch  int64
	offset int64 // of the first sample in the epoch
	slots  []slot
	slab   *slab

	pending atomic.Int64  // slots that are not done
	done    chan struct{} // closed when none is pending
}

// slot is one pair of a batch.
type slot struct {
	sample shards.Sample
	params [2]augment.ViewParams
	coords [2]augment.Coord
	large  int64 // bytes of Pipeline.large that the image takes
	err    error // why there is no pair
	fatal  bool  // err is not about this sample alone
}

// job is one slot on its way through the stages.
type job struct {
	batch *batch
	slot  int
}

func (j job) get() *slot { return &j.batch.slots[j.slot] }

// finish marks the slot as done.
func (j job) finish() {
	if j.batch.pending.Add(-1) == 0 {
		close(j.batch.done)
	}
}

// start starts all goroutines of the pipeline: one that plans, readers and
// workers. Each ends when the channel it receives from is closed, which the
// stage before does at the stream's end, or when the context is cancelled.
func start(ctx context.Context, cfg Config) (*Pipeline, error) {
	schema, err := Schema(cfg.Size, cfg.DType, cfg.Recipe, cfg.Seed)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{
		cfg:     cfg,
		plan:    newPlan(&cfg),
		opened:  time.Now(),
		schema:  schema,
		builder: newRecordBuilder(cfg.Allocator, schema),
		batches: make(chan *batch, cfg.Batches),
		toRead:  make(chan job, cfg.Workers),
		toMake:  make(chan job, cfg.Workers),
	}
	p.pool = newPool(cfg.Allocator, 2*p.viewStride(), cfg.Batches)
	p.memory = decoding.NewSharedMemory(cfg.Workers)
	p.room = max(encodedAtLeast, workerEncoded*int64(cfg.Workers))
	p.large = semaphore.NewWeighted(p.room)
	p.position = p.plan.normal(cfg.Start)
	p.epochBad = p.position.Bad
	p.refs.Store(1)
	p.ctx, p.cancel = context.WithCancel(ctx)

	p.wg.Go(func() {
		defer close(p.batches)
		defer close(p.toRead)
		p.planBatches(p.position)
	})
	var reading sync.WaitGroup
	for range readers {
		reading.Go(p.readSamples)
	}
	p.wg.Go(func() {
		reading.Wait()
		close(p.toMake)
	})
	for range cfg.Workers {
		p.wg.Go(p.makeViews)
	}
	return p, nil
}

// viewBytes is the size of one view.
func (p *Pipeline) viewBytes() int { return 3 * p.cfg.Size * p.cfg.Size * p.cfg.DType.bytes() }

// viewStride is the distance between a slab's first views and its second
// ones: Arrow likes buffers aligned to 64 bytes.
func (p *Pipeline) viewStride() int { return (p.cfg.BatchSize*p.viewBytes() + 63) &^ 63 }

// planBatches makes empty batches in order and sends their slots on.
func (p *Pipeline) planBatches(pos Position) {
	prefetch := newPrefetcher(&p.cfg, &p.plan, pos)
	for p.cfg.Epochs == 0 || pos.Epoch < int64(p.cfg.Epochs) {
		order := p.plan.epoch(pos.Epoch)
		for pos.Offset < p.plan.length {
			start := time.Now()
			slab, err := p.pool.get(p.ctx)
			if err != nil {
				return
			}
			p.stats.batchWait.lap(start)

			// A stream that starts within a batch begins with the rest of it, so
			// that all later batches are those of an unbroken stream.
			end := min(p.plan.length, pos.Offset-pos.Offset%p.plan.batch+p.plan.batch)
			b := &batch{
				epoch:  pos.Epoch,
				offset: pos.Offset,
				slots:  make([]slot, end-pos.Offset),
				slab:   slab,
				done:   make(chan struct{}),
			}
			b.pending.Store(int64(len(b.slots)))
			p.batches <- b // has room: there are no more batches than slabs
			for i := range b.slots {
				offset := pos.Offset + int64(i)
				prefetch.upTo(p.ctx, pos.Epoch, offset)
				b.slots[i].sample.Index = order.row(p.plan.place(offset))
				if !send(p.ctx, p.toRead, job{b, i}) {
					return
				}
			}
			pos.Offset = end
		}
		pos = p.plan.normal(pos)
	}
}

// readSamples reads the encoded images.
func (p *Pipeline) readSamples() {
	for j := range p.toRead {
		p.stats.readQueue.sample(len(p.toRead))
		start := time.Now()
		s := j.get()
		row := s.sample.Index
		sample, err := p.cfg.Dataset.Sample(row)
		start = p.stats.read.lap(start)
		if err != nil {
			var corrupt *shards.CorruptError
			if errors.As(err, &corrupt) {
				s.sample.Key = corrupt.Key
			}
			s.err, s.fatal = err, corrupt == nil
			j.finish()
			continue
		}
		s.sample = sample
		s.sample.Index = row // whose draws it gets, whatever the dataset says
		if n := int64(len(sample.Image)); n > largeImage {
			s.large = min(n, p.room)
			if p.large.Acquire(p.ctx, s.large) != nil {
				return
			}
		}
		if !send(p.ctx, p.toMake, j) {
			return
		}
		p.stats.readersWait.lap(start)
	}
}

// makeViews decodes images and makes their views, in the batch's memory.
func (p *Pipeline) makeViews() {
	var (
		decoder = decoding.NewWorker(p.memory, p.cfg.Limits)
		scratch augment.Scratch
		planes  []uint8 // of a view that is not made in the batch's memory
	)
	if p.cfg.DType == Float32 {
		planes = make([]uint8, 3*p.cfg.Size*p.cfg.Size)
	}
	for {
		start := time.Now()
		j, ok := <-p.toMake
		if !ok || p.ctx.Err() != nil { // a batch that is not done is never handed out
			return
		}
		p.stats.viewQueue.sample(len(p.toMake))
		start = p.stats.workersWait.lap(start)
		s := j.get()
		width, height := int(s.sample.Width), int(s.sample.Height)
		for v := range 2 {
			rng := augment.NewRand(p.cfg.Seed, uint64(j.batch.epoch), uint64(s.sample.Index), v)
			s.params[v] = p.cfg.Recipe.Sample(&rng, v, width, height)
			s.coords[v] = s.params[v].Coord(width, height)
		}
		divisor := 1
		if p.cfg.ScaledDecode {
			divisor = augment.LargestScale(p.cfg.Size, p.cfg.Size, s.params[:]...)
		}
		s.err = decoder.Decode(p.ctx, s.sample.Image, divisor, func(image *augment.Image) error {
			start = p.stats.decode.lap(start)
			if divisor == 1 && (image.Width != width || image.Height != height) {
				return fmt.Errorf("pipeline: the image has %d x %d pixels, its row says %d x %d", image.Width, image.Height, width, height)
			}
			for v := range 2 {
				pixels := p.pixels(j.batch, v, j.slot)
				view := augment.Planes{Width: p.cfg.Size, Height: p.cfg.Size, Pix: pixels}
				if planes != nil {
					view.Pix = planes
				}
				params := s.params[v]
				if divisor > 1 {
					params = params.Scaled(width, height, image.Width, image.Height)
				}
				params.Apply(view, *image, &scratch)
				if planes != nil {
					normalize(arrow.Float32Traits.CastFromBytes(pixels), planes)
				}
			}
			p.stats.views.lap(start)
			return nil
		})
		p.cfg.Dataset.Forget(s.sample)
		// The rest of the sample holds the image's memory.
		s.sample = shards.Sample{Index: s.sample.Index, Key: s.sample.Key, Label: s.sample.Label}
		p.large.Release(s.large)
		if s.err != nil {
			if p.ctx.Err() != nil { // it may be only that
				return
			}
			p.stats.decode.lap(start)
		}
		j.finish()
	}
}

// pixels is the memory of a view.
func (p *Pipeline) pixels(b *batch, view, slot int) []byte {
	n := p.viewBytes()
	from := view*p.viewStride() + slot*n
	return b.slab.pixels[from : from+n : from+n]
}

func send(ctx context.Context, to chan<- job, j job) bool {
	select {
	case to <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close stops the pipeline and waits for its goroutines. Records that were
// retained stay valid. Close may be called while another goroutine is in Next,
// and more than once.
func (p *Pipeline) Close() error {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.wg.Wait()
	p.releaseRecord()
	if p.waiting != nil {
		p.pool.put(p.waiting.slab)
	}
	for b := range p.batches {
		p.pool.put(b.slab)
	}
	p.pool.close()
	p.builder.release()
	return nil
}

// Dataset is the digest of the dataset that the samples come from.
func (p *Pipeline) Dataset() string { return p.cfg.Dataset.Digest() }

// Recipe is how the views are drawn.
func (p *Pipeline) Recipe() augment.Recipe { return p.cfg.Recipe }

// BatchesPerEpoch is the number of batches of a whole epoch, of this rank.
func (p *Pipeline) BatchesPerEpoch() int64 {
	return (p.plan.length + p.plan.batch - 1) / p.plan.batch
}

// PairsPerEpoch is the number of pairs of a whole epoch, of this rank, if no
// sample is bad.
func (p *Pipeline) PairsPerEpoch() int64 { return p.plan.length }

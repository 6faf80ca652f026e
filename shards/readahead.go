package shards

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

const (
	// maxImageBytes bounds one encoded image; what is larger is rejected.
	maxImageBytes = 64 << 20
	// windowBytes bounds the encoded bytes that were read ahead.
	windowBytes = 32 << 20
	// windowFiles bounds the files that were read ahead, per worker.
	windowFiles = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNotImage is the outcome of a file that is no image and is not named like
// one.
var errNotImage = errors.New("not an image")

// job is one file on its way through the workers.
type job struct {
	ingest.File
	seq  int64         // position in the order of the output
	done chan struct{} // closed when the rest is set

	header decode.Header
	crc    uint32
	data   []byte  // the row's image: what was read, or what became of it
	held   int64   // of the window
	buf    *[]byte // what was read lies in it; returned by release
	err    error   // nil, errNotImage, a *ingest.RejectError or what stops the run
}

// readAhead reads files with several workers and hands them out in order.
// newReadAhead starts its goroutines; they end when all is read or the
// context is cancelled, and wait returns then.
type readAhead struct {
	sources []ingest.Source
	queue   chan *job // in order
	window  *window
	buffers sync.Pool
	wg      sync.WaitGroup
}

func newReadAhead(ctx context.Context, sources []ingest.Source, files []ingest.File, workers int, newExaminer func() *examiner) *readAhead {
	r := &readAhead{
		sources: sources,
		queue:   make(chan *job, workers*windowFiles),
		window:  newWindow(ctx, windowBytes),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
	var mu sync.Mutex // taking a file and its place in the queue is one step
	taken, running := 0, workers
	take := func() *job {
		mu.Lock()
		defer mu.Unlock()
		if taken == len(files) {
			return nil
		}
		j := &job{File: files[taken], seq: int64(taken), done: make(chan struct{})}
		select {
		case r.queue <- j:
			taken++
			return j
		case <-ctx.Done():
			return nil
		}
	}
	for range workers {
		r.wg.Go(func() {
			e := newExaminer()
			for j := take(); j != nil; j = take() {
				if j.err = r.read(j); j.err == nil {
					j.err = e.examine(ctx, j)
				}
				close(j.done)
			}
			mu.Lock()
			defer mu.Unlock()
			if running--; running == 0 {
				close(r.queue)
			}
		})
	}
	return r
}

func (r *readAhead) wait() { r.wg.Wait() }

// next returns the next file in order, nil after the last. It must be given
// back by release before the next call.
func (r *readAhead) next(ctx context.Context) (*job, error) {
	j, ok := <-r.queue
	if !ok {
		return nil, ctx.Err()
	}
	select {
	case <-j.done:
		return j, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *readAhead) release(j *job) {
	r.window.release(j.seq, j.held)
	if j.buf != nil && cap(*j.buf) <= keptBuffer {
		r.buffers.Put(j.buf)
	}
	j.data, j.buf = nil, nil
}

func (r *readAhead) read(j *job) error {
	switch {
	case j.Fault != ingest.FaultNone:
		return &ingest.RejectError{Reason: j.Fault.String()}
	case !utf8.ValidString(j.Key):
		return &ingest.RejectError{Reason: "the name is not UTF-8"}
	}
	f, size, err := r.sources[j.Input].Open(&j.File)
	if err != nil {
		return r.named(j, err)
	}
	defer f.Close()
	if size < 0 {
		return fmt.Errorf("%s: its source gives it a length of %d bytes: Open must return the file's length", j.Key, size)
	}
	if size > maxImageBytes {
		return r.named(j, &ingest.RejectError{Reason: fmt.Sprintf("has %d bytes, the limit is %d", size, maxImageBytes)})
	}
	if err := r.window.acquire(j.seq, size); err != nil {
		return err
	}
	j.held = size
	return r.named(j, r.fill(j, f, int(size)))
}

// named turns the rejection of a file that is not named like an image into
// errNotImage.
func (r *readAhead) named(j *job, err error) error {
	var reject *ingest.RejectError
	if errors.As(err, &reject) && !reject.Wanted && !ingest.HasImageExtension(j.Key) {
		return errNotImage
	}
	return err
}

// fill reads the whole of f, which should have the given size. Memory grows
// with what really comes.
func (r *readAhead) fill(j *job, f io.Reader, size int) error {
	const first = 1 << 20
	j.buf = r.buffers.Get().(*[]byte)
	if need := min(size, first) + 1; cap(*j.buf) < need {
		*j.buf = make([]byte, need)
	}
	n := 0
	for {
		// One byte more than there should be, to see that the file ends here.
		buf := (*j.buf)[:min(size+1, cap(*j.buf))]
		more, err := io.ReadFull(f, buf[n:])
		n += more
		j.data = buf[:min(n, size)]
		switch {
		case err == nil && n > size, (err == io.ErrUnexpectedEOF || err == io.EOF) && n != size:
			return &ingest.ChangedError{Name: j.Key}
		case err == io.ErrUnexpectedEOF || err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		*j.buf = append(make([]byte, 0, min(size+1, 2*n)), buf...)
	}
}

// window bounds the bytes of the files that were read and not yet written.
// The file that is next in order never waits, so the bound can be exceeded by
// one file and readers cannot block each other.
type window struct {
	mu   sync.Mutex
	cond sync.Cond
	free int64
	next int64 // the file that is next in order
	ctx  context.Context
}

func newWindow(ctx context.Context, bytes int64) *window {
	w := &window{free: bytes, ctx: ctx}
	w.cond.L = &w.mu
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cond.Broadcast()
	})
	return w
}

// acquire waits until file seq may take n bytes.
func (w *window) acquire(seq, n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.free < n && w.next != seq {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		w.cond.Wait()
	}
	w.free -= n
	return nil
}

// release gives back the n bytes of file seq and lets seq+1 pass.
func (w *window) release(seq, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
	w.next = seq + 1
	w.cond.Broadcast()
}

package pipeline

import (
	"context"
	"sync"

	"github.com/apache/arrow/go/v15/arrow/memory"
)

// pool hands out slabs, at most max at a time.
type pool struct {
	allocator memory.Allocator
	size      int        // bytes of a slab
	free      chan *slab // empty ones have no memory yet

	mu     sync.Mutex
	closed bool
}

// slab is the memory of a batch's pixels. Arrow buffers made by share refer to
// it; when the last of them is released it returns to its pool.
type slab struct {
	memory.Allocator // the pool's; Free is the slab's own
	pool             *pool
	pixels           []byte
}

func newPool(allocator memory.Allocator, size, max int) *pool {
	p := &pool{allocator: allocator, size: size, free: make(chan *slab, max)}
	for range max {
		p.free <- &slab{Allocator: allocator, pool: p}
	}
	return p
}

// get waits for a slab that nobody uses. Its pixels hold anything.
func (p *pool) get(ctx context.Context) (*slab, error) {
	select {
	case s := <-p.free:
		if s.pixels == nil {
			s.pixels = p.allocator.Allocate(p.size)
		}
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put takes a slab back, which no buffer refers to.
func (p *pool) put(s *slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.allocator.Free(s.pixels)
		return
	}
	p.free <- s
}

// close frees the slabs that are here; those in use are freed when put.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for range len(p.free) {
		if s := <-p.free; s.pixels != nil {
			p.allocator.Free(s.pixels)
		}
	}
}

// share returns a buffer that owns the slab; slices of it share the ownership.
func (s *slab) share() *memory.Buffer { return memory.NewBufferWithAllocator(s.pixels, s) }

// Free implements memory.Allocator for the buffer that share returned.
func (s *slab) Free([]byte) { s.pool.put(s) }

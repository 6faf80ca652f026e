//go:build cuda

package cuda

import (
	"math/bits"
	"slices"
)

// arena hands out parts of large allocations. Parts are freed in the order of
// the calls, not of the card's work: all users of the memory run on one stream.
type arena struct {
	allocate func(bytes int64) (address uintptr, ok bool)
	separate bool  // an allocation for each part
	chunk    int64 // least size of an allocation otherwise

	chunks []*span     // first span of each allocation
	free   [48][]*span // free spans, by the length of their size in bits
	taken  int64       // bytes of all allocations
	inUse  int64       // bytes of them
	peak   int64
}

// span is a part of an allocation; neighbours are linked.
type span struct {
	address        uintptr
	size           int64
	previous, next *span
	bin            int // place in the arena's list of free spans, -1 if in use
}

const alignment = 256 // of parts, as of CUDA's own allocations

// alloc returns a part of at least the given size, nil if there is none.
func (a *arena) alloc(bytes int64) *span {
	size := max(alignment, (bytes+alignment-1)/alignment*alignment)
	if a.separate {
		size = max(16, bytes)
	}
	s := a.find(size)
	if s == nil {
		chunk := size
		if !a.separate {
			chunk = max(size, a.chunk)
		}
		address, ok := a.allocate(chunk)
		if !ok && chunk > size {
			chunk = size
			address, ok = a.allocate(chunk)
		}
		if !ok {
			return nil
		}
		a.taken += chunk
		s = &span{address: address, size: chunk, bin: -1}
		a.chunks = append(a.chunks, s)
	}
	if rest := s.size - size; rest > 0 {
		tail := &span{address: s.address + uintptr(size), size: rest, previous: s, next: s.next, bin: -1}
		if s.next != nil {
			s.next.previous = tail
		}
		s.size, s.next = size, tail
		a.put(tail)
	}
	a.inUse += s.size
	a.peak = max(a.peak, a.inUse)
	return s
}

// find takes the smallest of the free spans that fit out of the first list that
// has one.
func (a *arena) find(size int64) *span {
	for bin := bits.Len64(uint64(size)); bin < len(a.free); bin++ {
		var best *span
		for _, s := range a.free[bin] {
			if s.size >= size && (best == nil || s.size < best.size) {
				best = s
			}
		}
		if best != nil {
			a.take(best)
			return best
		}
	}
	return nil
}

// release gives a part back and joins it with free neighbours.
func (a *arena) release(s *span) {
	a.inUse -= s.size
	if n := s.next; n != nil && n.bin >= 0 {
		a.take(n)
		s.join()
	}
	if p := s.previous; p != nil && p.bin >= 0 {
		a.take(p)
		p.join()
		s = p
	}
	a.put(s)
}

// join adds the next span to s.
func (s *span) join() {
	n := s.next
	s.size, s.next = s.size+n.size, n.next
	if n.next != nil {
		n.next.previous = s
	}
}

func (a *arena) put(s *span) {
	bin := bits.Len64(uint64(s.size))
	s.bin = len(a.free[bin])
	a.free[bin] = append(a.free[bin], s)
}

func (a *arena) take(s *span) {
	list := &a.free[bits.Len64(uint64(s.size))]
	last := (*list)[len(*list)-1]
	(*list)[s.bin] = last
	last.bin = s.bin
	*list = (*list)[:len(*list)-1]
	s.bin = -1
}

// trim takes the allocations out of which nothing is in use and returns their
// addresses.
func (a *arena) trim() (addresses []uintptr) {
	a.chunks = slices.DeleteFunc(a.chunks, func(s *span) bool {
		empty := s.previous == nil && s.next == nil && s.bin >= 0
		if empty {
			a.take(s)
			a.taken -= s.size
			addresses = append(addresses, s.address)
		}
		return empty
	})
	return addresses
}

package pipeline

import (
	"sort"
)

// blockRows neighbours of a shard stay together until windows mix them: with
// photographs, some megabytes that a disk reads in one go.
const blockRows = 64

// What the permutations of a window order are for, among their key's words.
const (
	permuteShards = 1 + iota
	permuteBlocks
	permuteWindow
)

// shardRange is the rows of the dataset that are in one shard.
type shardRange struct{ first, rows int64 }

func shardRanges(d Dataset) []shardRange {
	rows := []int64{d.Len()}
	if sharded, ok := d.(ShardedDataset); ok {
		rows = sharded.ShardRows()
	}
	ranges := make([]shardRange, len(rows))
	next := int64(0)
	for i, n := range rows {
		ranges[i] = shardRange{next, n}
		next += n
	}
	return ranges
}

// windowOrder is the order of ShuffleWindow for one epoch. Samples are read
// from the disk in sequence: shard by shard and, within a shard, block by block,
// both in random order; only the last block of a shard, if it is a short one,
// keeps its place. The windows are cut from that sequence, and each is permuted.
type windowOrder struct {
	plan   *plan
	epoch  uint64
	shards []shardRange  // in this epoch's order
	blocks []permutation // of each shard's whole blocks; unused if it has none
	starts []int64       // where each shard begins in the sequence
}

func newWindowOrder(p *plan, epoch uint64) *windowOrder {
	w := &windowOrder{plan: p, epoch: epoch}
	perm := newPermutation(int64(len(p.shards)), p.seed, epoch, permuteShards)
	next := int64(0)
	for i := range p.shards {
		n := perm.at(int64(i))
		s := p.shards[n]
		w.shards = append(w.shards, s)
		w.blocks = append(w.blocks, newPermutation(max(s.rows/blockRows, 1), p.seed, epoch, permuteBlocks, uint64(n)))
		w.starts = append(w.starts, next)
		next += s.rows
	}
	return w
}

// inSequence is the row at a place of the sequence before windows mix it.
func (w *windowOrder) inSequence(at int64) int64 {
	i := sort.Search(len(w.starts), func(i int) bool { return w.starts[i] > at }) - 1
	s, row := w.shards[i], at-w.starts[i]
	if block := row / blockRows; block < s.rows/blockRows {
		row = w.blocks[i].at(block)*blockRows + row%blockRows
	}
	return s.first + row
}

// window is where the window begins that a place belongs to, and what permutes it.
func (w *windowOrder) window(place int64) (first int64, perm permutation) {
	n := place / w.plan.window
	first = n * w.plan.window
	return first, newPermutation(min(w.plan.window, w.plan.samples-first), w.plan.seed, w.epoch, permuteWindow, uint64(n))
}

func (w *windowOrder) row(place int64) int64 {
	first, perm := w.window(place)
	return w.inSequence(first + perm.at(place-first))
}

func (w *windowOrder) fetch(n int64) (row, place int64) {
	first, perm := w.window(n)
	return w.inSequence(n), first + perm.of(n-first)
}

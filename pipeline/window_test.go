package pipeline

import (
	"slices"
	"testing"
)

// windowPlan is a plan over shards of the given rows.
func windowPlan(window int64, rows ...int64) *plan {
	p := &plan{seed: 5, world: 1, shuffle: true, window: window}
	for _, n := range rows {
		p.shards = append(p.shards, shardRange{p.samples, n})
		p.samples += n
	}
	p.window = min(p.window, p.samples)
	return p
}

var windowCases = []struct {
	window int64
	rows   []int64
}{
	{1, []int64{1}},
	{10, []int64{3, 1, 2}},
	{100, []int64{64, 65, 1, 640, 200}},
	{37, []int64{500, 0, 129, 63}},
	{5000, []int64{300, 300, 300}},
}

func TestWindowOrderIsAPermutation(t *testing.T) {
	for _, c := range windowCases {
		p := windowPlan(c.window, c.rows...)
		seen, fetched := make([]bool, p.samples), make([]bool, p.samples)
		order := p.epoch(3)
		for n := range p.samples {
			row := order.row(n)
			if seen[row] {
				t.Fatalf("%+v: row %d comes twice", c, row)
			}
			seen[row] = true
			row, place := order.fetch(n)
			if fetched[row] || order.row(place) != row {
				t.Fatalf("%+v: row %d is fetched twice, or does not come at %d", c, row, place)
			}
			fetched[row] = true
		}
	}
}

// What a window needs was fetched when the one before it is used up.
func TestWindowsAreFetchedAhead(t *testing.T) {
	for _, c := range windowCases {
		p := windowPlan(c.window, c.rows...)
		order := p.epoch(0)
		for n := range p.samples {
			if _, place := order.fetch(n); place/p.window != n/p.window {
				t.Fatalf("%+v: fetched in window %d, used in %d", c, n/p.window, place/p.window)
			}
		}
	}
}

// Before windows mix it, the sequence runs through whole blocks, all of a shard
// before the next one.
func TestWindowOrderReadsBlocks(t *testing.T) {
	p := windowPlan(100, 640, 200, 3*blockRows)
	order := p.epoch(1)
	jumps, shardsSeen, previous := 0, []int{}, int64(-2)
	for n := range p.samples {
		row, _ := order.fetch(n)
		if row != previous+1 {
			jumps++
		}
		previous = row
		shard := slices.IndexFunc(p.shards, func(s shardRange) bool { return row < s.first+s.rows })
		if len(shardsSeen) == 0 || shardsSeen[len(shardsSeen)-1] != shard {
			shardsSeen = append(shardsSeen, shard)
		}
	}
	if len(shardsSeen) != 3 {
		t.Errorf("shards are read in the order %v", shardsSeen)
	}
	if most := 10 + 4 + 3; jumps > most {
		t.Errorf("%d jumps, there are %d blocks", jumps, most)
	}
}

// The order is another one in every epoch, and samples of a block come apart.
func TestWindowOrderMixes(t *testing.T) {
	p := windowPlan(512, slices.Repeat([]int64{256}, 8)...)
	rows := func(epoch int64) []int64 {
		order := p.epoch(epoch)
		var out []int64
		for n := range p.samples {
			out = append(out, order.row(n))
		}
		return out
	}
	first := rows(0)
	if slices.Equal(first, rows(1)) {
		t.Error("two epochs have the same order")
	}
	p.seed++
	if slices.Equal(first, rows(0)) {
		t.Error("two seeds have the same order")
	}
	neighbours := 0
	for i := range first[1:] {
		if first[i]/blockRows == first[i+1]/blockRows {
			neighbours++
		}
	}
	// A window of 512 has 8 blocks: a random order has 1 in 8 of 2047, about 256.
	if neighbours > 400 {
		t.Errorf("%d samples follow one of their own block, about 256 expected", neighbours)
	}
}

package pipeline

// plan is the order of the samples of all epochs, for one rank. The samples of
// an epoch have places 0, 1, 2, …, of which a rank has every world-th one.
type plan struct {
	seed    uint64
	samples int64 // in the dataset
	rank    int64
	world   int64
	batch   int64
	length  int64 // samples of an epoch that this rank gets to see
	shuffle bool
	window  int64        // 0: no windows
	shards  []shardRange // for windows
}

func newPlan(cfg *Config) plan {
	p := plan{
		seed:    cfg.Seed,
		samples: cfg.Dataset.Len(),
		rank:    int64(cfg.Rank),
		world:   int64(cfg.World),
		batch:   int64(cfg.BatchSize),
		length:  partLength(cfg),
		shuffle: cfg.Shuffle != ShuffleNone,
	}
	if !cfg.KeepLast {
		p.length -= p.length % p.batch
	}
	if window, _ := cfg.Shuffle.window(); window > 0 { // Validate had a look at the error
		p.window = min(window, p.samples)
		p.shards = shardRanges(cfg.Dataset)
	}
	return p
}

// partLength is the number of samples of an epoch that belong to the rank.
func partLength(cfg *Config) int64 {
	samples, rank, world := cfg.Dataset.Len(), int64(cfg.Rank), int64(max(cfg.World, 1))
	if cfg.KeepLast {
		return (samples - rank + world - 1) / world
	}
	return samples / world
}

// normal is the position with an offset inside of its epoch.
func (p *plan) normal(pos Position) Position {
	if pos.Offset >= p.length {
		return Position{Epoch: pos.Epoch + 1}
	}
	return pos
}

// place is the place in the epoch, among the samples of all ranks, of the sample
// that this rank has at the given offset.
func (p *plan) place(offset int64) int64 { return offset*p.world + p.rank }

// order is what comes when in an epoch.
type order struct {
	row   func(place int64) int64          // the row of the dataset at a place
	fetch func(n int64) (row, place int64) // the n-th row to fetch from the disk, and where it comes
}

func (p *plan) epoch(epoch int64) order {
	row := func(place int64) int64 { return place }
	switch {
	case p.window > 0:
		w := newWindowOrder(p, uint64(epoch))
		return order{row: w.row, fetch: w.fetch}
	case p.shuffle:
		perm := newPermutation(p.samples, p.seed, uint64(epoch))
		row = perm.at
	}
	return order{row: row, fetch: func(n int64) (int64, int64) { return row(n), n }}
}

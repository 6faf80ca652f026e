package pipeline

import "math/bits"

// plan is the order of the samples of all epochs, for one rank.
type plan struct {
	seed    uint64
	samples int64 // in the dataset
	rank    int64
	world   int64
	batch   int64
	length  int64 // samples of an epoch that this rank gets to see
	shuffle bool
}

func newPlan(cfg *Config) plan {
	p := plan{
		seed:    cfg.Seed,
		samples: cfg.Dataset.Len(),
		rank:    int64(cfg.Rank),
		world:   int64(cfg.World),
		batch:   int64(cfg.BatchSize),
		shuffle: cfg.Shuffle == ShuffleFull,
	}
	p.length = p.samples / p.world
	if !cfg.KeepLast {
		p.length -= p.length % p.batch
	}
	return p
}

// normal is the position with an offset inside of its epoch.
func (p *plan) normal(pos Position) Position {
	if pos.Offset >= p.length {
		return Position{Epoch: pos.Epoch + 1}
	}
	return pos
}

// epoch returns the function that maps an offset to a row of the dataset.
func (p *plan) epoch(epoch int64) func(offset int64) int64 {
	if !p.shuffle {
		return func(offset int64) int64 { return offset*p.world + p.rank }
	}
	perm := newPermutation(uint64(p.samples), p.seed, uint64(epoch))
	return func(offset int64) int64 { return int64(perm.at(uint64(offset*p.world + p.rank))) }
}

// permutation is a keyed bijection of [0, n): a Feistel network on the
// smallest even number of bits that holds n-1. A result outside of the range
// is put through again until one is inside ("cycle walking": Black and
// Rogaway, Ciphers with Arbitrary Finite Domains, 2002), fewer than four times
// on average.
type permutation struct {
	n    uint64
	half int // bits of each of the two halves
	keys [feistelRounds]uint64
}

// feistelRounds mixes also domains of a few bits well: four make a
// pseudorandom permutation of a large domain (Luby and Rackoff, 1988).
const feistelRounds = 8

func newPermutation(n, seed, epoch uint64) permutation {
	p := permutation{n: n, half: max(1, (bits.Len64(n-1)+1)/2)}
	key := mix64(mix64(seed) + epoch)
	for i := range p.keys {
		key += 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, as in SplitMix64
		p.keys[i] = mix64(key)
	}
	return p
}

// at is the image of x in [0, n).
func (p *permutation) at(x uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		left, right := x>>p.half, x&mask
		for _, key := range p.keys {
			left, right = right, left^(mix64(right+key)&mask)
		}
		if x = left<<p.half | right; x < p.n {
			return x
		}
	}
}

// mix64 is the output function of SplitMix64 (Steele, Lea and Flood, Fast
// Splittable Pseudorandom Number Generators, 2014).
func mix64(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

package pipeline

import "math/bits"

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

// newPermutation is the permutation of [0, n) that belongs to the words; n is
// at least 1.
func newPermutation(n int64, words ...uint64) permutation {
	p := permutation{n: uint64(n), half: max(1, (bits.Len64(uint64(n)-1)+1)/2)}
	key := uint64(0)
	for _, w := range words {
		key = mix64(key + w)
	}
	for i := range p.keys {
		key += 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, as in SplitMix64
		p.keys[i] = mix64(key)
	}
	return p
}

// at is the image of x in [0, n).
func (p *permutation) at(x int64) int64 {
	mask := uint64(1)<<p.half - 1
	for v := uint64(x); ; {
		left, right := v>>p.half, v&mask
		for _, key := range p.keys {
			left, right = right, left^(mix64(right+key)&mask)
		}
		if v = left<<p.half | right; v < p.n {
			return int64(v)
		}
	}
}

// of is the x in [0, n) whose image is y: the same, backwards.
func (p *permutation) of(y int64) int64 {
	mask := uint64(1)<<p.half - 1
	for v := uint64(y); ; {
		left, right := v>>p.half, v&mask
		for i := range p.keys {
			left, right = right^(mix64(left+p.keys[feistelRounds-1-i])&mask), left
		}
		if v = left<<p.half | right; v < p.n {
			return int64(v)
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

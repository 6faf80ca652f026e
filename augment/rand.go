package augment

import "math/bits"

// Rand is a counter-based source of random numbers: draw n of (seed, epoch,
// index, view) is a function of these five numbers alone, whatever was drawn
// elsewhere before. The generator is Philox4x64-10 of Salmon, Moraes, Dror and
// Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
type Rand struct {
	key     [2]uint64
	counter [4]uint64
	block   [4]uint64
	used    int // numbers of block that were handed out; 0 before the first block
}

// NewRand returns the source of one view of one image in one epoch. The key is
// (seed, epoch), the counter (block, view, index, 0) with four draws a block.
func NewRand(seed, epoch, index uint64, view int) Rand {
	return Rand{key: [2]uint64{seed, epoch}, counter: [4]uint64{0, uint64(view), index, 0}}
}

// Uint64 returns the next 64 random bits.
func (r *Rand) Uint64() uint64 {
	if r.used == len(r.block) {
		r.counter[0]++
		r.used = 0
	}
	if r.used == 0 {
		r.block = philox4x64(r.counter, r.key)
	}
	x := r.block[r.used]
	r.used++
	return x
}

// Float64 returns a number in [0, 1), a multiple of 2^-53.
func (r *Rand) Float64() float64 {
	return float64(r.Uint64()>>11) / (1 << 53)
}

// Uniform returns a number between lo and hi.
func (r *Rand) Uniform(lo, hi float64) float64 {
	// The conversion keeps compilers from fusing: draws must not differ by machine.
	return lo + float64((hi-lo)*r.Float64())
}

// IntN returns an integer in [0, n). It always takes one draw; its bias is
// below n/2^64. It panics if n < 1.
func (r *Rand) IntN(n int) int {
	if n < 1 {
		panic("augment: Rand.IntN of less than one value")
	}
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}

// Bool returns true with probability p.
func (r *Rand) Bool(p float64) bool { return r.Float64() < p }

// Perm4 returns a permutation of 0, 1, 2, 3, each equally likely.
func (r *Rand) Perm4() [4]int {
	p := [4]int{0, 1, 2, 3}
	for i := 3; i > 0; i-- {
		j := r.IntN(i + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// philox4x64 is the bijection of Philox4x64-10: ten rounds over a 256-bit
// counter under a 128-bit key that moves by a Weyl sequence.
func philox4x64(c [4]uint64, key [2]uint64) [4]uint64 {
	const (
		multiplier0 = 0xD2E7470EE14C6C93
		multiplier1 = 0xCA5A826395121157
		weyl0       = 0x9E3779B97F4A7C15 // golden ratio
		weyl1       = 0xBB67AE8584CAA73B // sqrt(3) - 1
	)
	for range 10 {
		hi0, lo0 := bits.Mul64(multiplier0, c[0])
		hi1, lo1 := bits.Mul64(multiplier1, c[2])
		c = [4]uint64{hi1 ^ c[1] ^ key[0], lo1, hi0 ^ c[3] ^ key[1], lo0}
		key[0] += weyl0
		key[1] += weyl1
	}
	return c
}

package augment

import (
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// eachLevel runs a test with each set of vector instructions of this build on
// this processor, portable code first.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	was := level
	defer func() { level = was }()
	for l := cpu.Generic; l <= cpu.Available; l++ {
		level = l
		t.Run(l.String(), f)
	}
}

// portably runs f without vector instructions.
func portably(f func()) {
	was := level
	defer func() { level = was }()
	level = cpu.Generic
	f()
}

// change is something done to a view in place, with parameters drawn from the
// ranges that are allowed.
type change struct {
	name  string
	apply func(p Planes, rng *rand.Rand, s *Scratch)
}

// changes are all operations, and what vector code has a part in besides.
func changes() []change {
	all := []change{
		{"brightness, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Brightness(extremes[rng.IntN(len(extremes))]) }},
		{"contrast, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Contrast(extremes[rng.IntN(len(extremes))]) }},
		{"saturation, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Saturation(extremes[rng.IntN(len(extremes))]) }},
		{"grayscale", func(p Planes, _ *rand.Rand, _ *Scratch) { p.Grayscale() }},
		{"solarize, any threshold", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Solarize(rng.IntN(300) - 20) }},
		{"blur", func(p Planes, rng *rand.Rand, s *Scratch) { p.GaussianBlur(2*rng.Float64(), s) }},
		{"wide blur", func(p Planes, rng *rand.Rand, s *Scratch) { p.GaussianBlur(20*rng.Float64(), s) }},
		{"flip", func(p Planes, _ *rand.Rand, _ *Scratch) { p.HFlip() }},
	}
	for _, op := range Operations() {
		all = append(all, change{op.String(), func(p Planes, rng *rand.Rand, s *Scratch) {
			drawJitter(op, rng).Apply(p, s)
		}})
	}
	return all
}

// drawJitter draws a factor from the operation's range, and no more than 3 where
// there is no other limit.
func drawJitter(op Op, rng *rand.Rand) Jitter {
	f := operations[op].factor
	if f.hi == math.MaxFloat32 {
		f.hi = 3
	}
	j := Jitter{Op: op, Factor: f.lo + (f.hi-f.lo)*rng.Float64()}
	if f.whole {
		j.Factor = math.Round(j.Factor)
	}
	return j
}

var extremes = []float64{0, 1e-45, 1e-30, 0.999999, 1, 1.0000001, 255, 1024, 1e10, 3.4e38}

// comparison holds results of vector code against those of the portable code,
// which runs first and once: of its results the checksums are kept, in the order
// that they come in. Comparisons within a level may run at the same time.
type comparison struct {
	portable []uint32
	next     int
}

// check takes the next result of the present level. remake makes it once more;
// after a difference, it does so by the portable code, when everything else at
// this level, which is the subtest atLevel, has ended.
func (c *comparison) check(t, atLevel *testing.T, got Planes, remake func() Planes) {
	t.Helper()
	sum := crc32.ChecksumIEEE(got.Pix)
	if level == cpu.Generic {
		c.portable = append(c.portable, sum)
		return
	}
	if sum != c.portable[c.next] {
		atLevel.Cleanup(func() {
			portably(func() { checkPlanes(atLevel, got, remake()) })
		})
		t.Fatalf("%d x %d pixels, result %d: not what the portable code makes", got.Width, got.Height, c.next)
	}
	c.next++
}

// TestLevelsAreEqual compares each change at each level with the portable code, on
// planes of every size from 1 x 1 to 70 x 70, between guards. A short test is
// content with some sizes.
func TestLevelsAreEqual(t *testing.T) {
	sides := sizes
	if !testing.Short() {
		sides = nil
		for side := 1; side <= 70; side++ {
			sides = append(sides, side)
		}
	}
	all := changes()
	comparisons := make([]comparison, len(all))
	eachLevel(t, func(atLevel *testing.T) {
		for i, change := range all {
			atLevel.Run(change.name, func(t *testing.T) {
				t.Parallel()
				c := &comparisons[i]
				c.next = 0
				var scratch Scratch
				for _, width := range sides {
					for _, height := range sides {
						draw := func(p Planes) *rand.Rand {
							rng := rand.New(rand.NewPCG(uint64(width), uint64(height)))
							fill(p, rng)
							return rng
						}
						got, checkGuards := guarded(t, width, height)
						change.apply(got, draw(got), &scratch)
						checkGuards()
						c.check(t, atLevel, got, func() Planes {
							again := NewPlanes(width, height)
							change.apply(again, draw(again), new(Scratch))
							return again
						})
					}
				}
			})
		}
	})
}

// fill draws pixels: of anything, of few levels, or of the ends of the range.
func fill(p Planes, rng *rand.Rand) {
	kind := rng.IntN(3)
	for i := range p.Pix {
		v := rng.Uint32()
		p.Pix[i] = [3]uint8{uint8(v), uint8(v%4 + 126), uint8(v%2) * 255}[kind]
	}
}

// TestResizeLevelsAreEqual compares crops of images of every size from 1 x 1 to
// 70 x 70, resized to such sizes, and of long sides.
func TestResizeLevelsAreEqual(t *testing.T) {
	const longest, inParallel = 70, 10
	var comparisons [longest/inParallel + 1]comparison
	eachLevel(t, func(atLevel *testing.T) {
		compare := func(t *testing.T, c *comparison, s *Scratch, src Image, crop Rect, flip bool, width, height int) {
			t.Helper()
			got, checkGuards := guarded(t, width, height)
			resizedCrop(got, src, crop, flip, &s.resize)
			checkGuards()
			c.check(t, atLevel, got, func() Planes {
				atLevel.Logf("%+v of %d x %d to %d x %d", crop, src.Width, src.Height, width, height)
				again := NewPlanes(width, height)
				resizedCrop(again, src, crop, flip, new(resizeScratch))
				return again
			})
		}
		for first := 1; first <= longest; first += inParallel {
			atLevel.Run(fmt.Sprintf("from %d wide", first), func(t *testing.T) {
				t.Parallel()
				c := &comparisons[first/inParallel]
				c.next = 0
				rng := rand.New(rand.NewPCG(3, uint64(first)))
				side := func() int { return 1 + rng.IntN(longest) }
				var scratch Scratch
				for width := first; width < first+inParallel; width++ {
					for height := 1; height <= longest; height++ {
						src := noise(rng, width, height)
						crop := Rect{Width: 1 + rng.IntN(width), Height: 1 + rng.IntN(height)}
						crop.Left, crop.Top = rng.IntN(width-crop.Width+1), rng.IntN(height-crop.Height+1)
						compare(t, c, &scratch, src, crop, rng.IntN(2) == 1, side(), side())
						compare(t, c, &scratch, src, Rect{Width: width, Height: height}, rng.IntN(2) == 1, side(), side())
					}
				}
			})
		}
		atLevel.Run("long sides", func(t *testing.T) {
			t.Parallel()
			c := &comparisons[len(comparisons)-1]
			c.next = 0
			rng := rand.New(rand.NewPCG(3, 4))
			var scratch Scratch
			for _, side := range []int{500, 1000, 2000, 2100, 9000} { // more and more taps
				compare(t, c, &scratch, noise(rng, side, 33), Rect{Width: side, Height: 33}, false, 33, 33)
				compare(t, c, &scratch, noise(rng, 33, side), Rect{Width: 33, Height: side}, true, 33, 33)
				white := noise(rng, side, 7)
				for i := range white.Pix {
					white.Pix[i] = 255
				}
				compare(t, c, &scratch, white, Rect{Width: side, Height: 7}, false, 32, 32)
			}
		})
	})
}

// TestHueLevelsAreEqual compares every colour.
func TestHueLevelsAreEqual(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 16 million colours a level take seconds, under the race detector minutes; make test compares them")
	}
	eachLevel(t, func(t *testing.T) {
		if level == cpu.Generic {
			return // TestHueTables is about this one
		}
		got, want := NewPlanes(256, 256), NewPlanes(256, 256)
		for red := range 256 {
			for i := range 1 << 16 {
				got.Pix[i], got.Pix[1<<16+i], got.Pix[2<<16+i] = uint8(red), uint8(i>>8), uint8(i)
			}
			copy(want.Pix, got.Pix)
			factor := float64(red*7%256)/255 - 0.5
			got.Hue(factor)
			portably(func() { want.Hue(factor) })
			if checkPlanes(t, got, want); t.Failed() {
				t.Fatalf("red %d, factor %v", red, factor)
			}
		}
	})
}

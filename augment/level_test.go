package augment

import (
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

// operations are all that vector code has a part in, with parameters drawn from
// the ranges that Validate allows, and typical ones.
var operations = []struct {
	name  string
	apply func(p Planes, rng *rand.Rand, s *Scratch)
}{
	{"brightness", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Brightness(3 * rng.Float64()) }},
	{"brightness, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Brightness(extremes[rng.IntN(len(extremes))]) }},
	{"contrast", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Contrast(3 * rng.Float64()) }},
	{"contrast, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Contrast(extremes[rng.IntN(len(extremes))]) }},
	{"saturation", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Saturation(3 * rng.Float64()) }},
	{"saturation, extreme", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Saturation(extremes[rng.IntN(len(extremes))]) }},
	{"hue", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Hue(rng.Float64() - 0.5) }},
	{"grayscale", func(p Planes, _ *rand.Rand, _ *Scratch) { p.Grayscale() }},
	{"solarize", func(p Planes, rng *rand.Rand, _ *Scratch) { p.Solarize(rng.IntN(300) - 20) }},
	{"blur", func(p Planes, rng *rand.Rand, s *Scratch) { p.GaussianBlur(2*rng.Float64(), s) }},
	{"wide blur", func(p Planes, rng *rand.Rand, s *Scratch) { p.GaussianBlur(20*rng.Float64(), s) }},
	{"sharpness", func(p Planes, rng *rand.Rand, s *Scratch) { p.Sharpness(3*rng.Float64(), s) }},
	{"flip", func(p Planes, _ *rand.Rand, _ *Scratch) { p.HFlip() }},
}

var extremes = []float64{0, 1e-45, 1e-30, 0.999999, 1, 1.0000001, 255, 1024, 1e10, 3.4e38}

// TestLevelsAreEqual compares each operation at each level with the portable
// code, on planes of every size from 1 x 1 to 70 x 70, between guards. The
// portable code itself, and a short test, are content with some sizes.
func TestLevelsAreEqual(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		sides := sizes
		if level > cpu.Generic && !testing.Short() {
			sides = nil
			for side := 1; side <= 70; side++ {
				sides = append(sides, side)
			}
		}
		for _, op := range operations {
			t.Run(op.name, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				var scratch, portable Scratch
				for _, width := range sides {
					for _, height := range sides {
						got, check := guarded(t, width, height)
						fill(got, rng)
						want := clonePlanes(got)
						seed := rng.Uint64()
						op.apply(got, rand.New(rand.NewPCG(seed, 0)), &scratch)
						check()
						portably(func() { op.apply(want, rand.New(rand.NewPCG(seed, 0)), &portable) })
						if checkPlanes(t, got, want); t.Failed() {
							t.FailNow()
						}
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
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		var scratch, portable Scratch
		compare := func(src Image, crop Rect, width, height int) {
			t.Helper()
			flip := rng.IntN(2) == 1
			got, check := guarded(t, width, height)
			resizedCrop(got, src, crop, flip, &scratch.resize)
			check()
			want := NewPlanes(width, height)
			portably(func() { resizedCrop(want, src, crop, flip, &portable.resize) })
			if checkPlanes(t, got, want); t.Failed() {
				t.Fatalf("%+v of %d x %d to %d x %d", crop, src.Width, src.Height, width, height)
			}
		}
		for width := 1; width <= 70; width++ {
			for height := 1; height <= 70; height++ {
				src := noise(rng, width, height)
				crop := Rect{Width: 1 + rng.IntN(width), Height: 1 + rng.IntN(height)}
				crop.Left, crop.Top = rng.IntN(width-crop.Width+1), rng.IntN(height-crop.Height+1)
				compare(src, crop, 1+rng.IntN(70), 1+rng.IntN(70))
				compare(src, Rect{Width: width, Height: height}, 1+rng.IntN(70), 1+rng.IntN(70))
			}
		}
		for _, side := range []int{500, 1000, 2000, 2100, 9000} { // more and more taps
			compare(noise(rng, side, 33), Rect{Width: side, Height: 33}, 33, 33)
			compare(noise(rng, 33, side), Rect{Width: 33, Height: side}, 33, 33)
			white := noise(rng, side, 7)
			for i := range white.Pix {
				white.Pix[i] = 255
			}
			compare(white, Rect{Width: side, Height: 7}, 32, 32)
		}
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

package augment

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// noise returns an image of random pixels.
func noise(rng *rand.Rand, width, height int) Image {
	m := Image{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
	for i := range m.Pix {
		m.Pix[i] = uint8(rng.Uint32())
	}
	return m
}

// sizes are widths and heights where loops begin and end differently.
var sizes = []int{1, 2, 3, 7, 16, 33, 64, 70}

func eachSize(t *testing.T, f func(t *testing.T, width, height int)) {
	for _, width := range sizes {
		for _, height := range sizes {
			t.Run(fmt.Sprintf("%dx%d", width, height), func(t *testing.T) { f(t, width, height) })
		}
	}
}

func clonePlanes(p Planes) Planes {
	p.Pix = slices.Clone(p.Pix)
	return p
}

// TestNothingChanges: operations that must leave every byte as it was.
func TestNothingChanges(t *testing.T) {
	t.Parallel()
	for name, apply := range map[string]func(Planes, *Scratch){
		"flip twice":       func(p Planes, _ *Scratch) { p.HFlip(); p.HFlip() },
		"solarize twice":   func(p Planes, _ *Scratch) { p.Solarize(0); p.Solarize(0) },
		"solarize nothing": func(p Planes, _ *Scratch) { p.Solarize(256) },
		"brightness 1":     func(p Planes, _ *Scratch) { p.Brightness(1) },
		"contrast 1":       func(p Planes, _ *Scratch) { p.Contrast(1) },
		"saturation 1":     func(p Planes, _ *Scratch) { p.Saturation(1) },
		"blur 0":           func(p Planes, s *Scratch) { p.GaussianBlur(0, s) },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var scratch Scratch
			eachSize(t, func(t *testing.T, width, height int) {
				want := planesOf(noise(rng, width, height))
				got := clonePlanes(want)
				apply(got, &scratch)
				checkPlanes(t, got, want)
			})
		})
	}
}

// TestWholeCropAtItsOwnSize is a plain copy into planes.
func TestWholeCropAtItsOwnSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var scratch Scratch
	eachSize(t, func(t *testing.T, width, height int) {
		src := noise(rng, width, height)
		got := NewPlanes(width, height)
		ResizedCrop(got, src, Rect{Width: width, Height: height}, &scratch)
		checkPlanes(t, got, planesOf(src))
	})
}

// TestCropSeesNothingBeyondItself: pixels around the crop do not matter.
func TestCropSeesNothingBeyondItself(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var scratch Scratch
	crop := Rect{Top: 5, Left: 9, Height: 20, Width: 31}
	a := noise(rng, 64, 48)
	b := noise(rng, 64, 48)
	for y := range crop.Height {
		from := 3 * ((crop.Top+y)*a.Width + crop.Left)
		copy(b.Pix[from:from+3*crop.Width], a.Pix[from:])
	}
	for _, size := range sizes {
		fromA, fromB := NewPlanes(size, size), NewPlanes(size, size)
		ResizedCrop(fromA, a, crop, &scratch)
		ResizedCrop(fromB, b, crop, &scratch)
		checkPlanes(t, fromB, fromA)
	}
}

// TestEvenImageStaysEven: weights add up to one, in the resize and in the blur.
func TestEvenImageStaysEven(t *testing.T) {
	t.Parallel()
	var scratch Scratch
	eachSize(t, func(t *testing.T, width, height int) {
		for _, level := range []uint8{0, 1, 127, 254, 255} {
			src := Image{Width: 50, Height: 37, Pix: bytes.Repeat([]byte{level}, 3*50*37)}
			got := NewPlanes(width, height)
			ResizedCrop(got, src, Rect{Left: 3, Top: 4, Width: 47, Height: 33}, &scratch)
			for _, sigma := range []float64{0.1, 1, 7, 100} {
				got.GaussianBlur(sigma, &scratch)
			}
			checkPlanes(t, got, Planes{Width: width, Height: height, Pix: bytes.Repeat([]byte{level}, 3*width*height)})
		}
	})
}

// TestLongSidesStayEven: rounding the weights of very many pixels can make
// them add up to more than one, which must not become a level of 256.
func TestLongSidesStayEven(t *testing.T) {
	t.Parallel()
	var scratch Scratch
	const side = 70_000
	pix := bytes.Repeat([]byte{255}, 3*side)
	for _, src := range []Image{{Width: side, Height: 1, Pix: pix}, {Width: 1, Height: side, Pix: pix}} {
		for _, size := range []int{1, 2, 5, 17} {
			got := NewPlanes(size, size)
			ResizedCrop(got, src, Rect{Width: src.Width, Height: src.Height}, &scratch)
			checkPlanes(t, got, Planes{Width: size, Height: size, Pix: bytes.Repeat([]byte{255}, 3*size*size)})
		}
	}
}

// TestApplyIsItsOperations compares Apply with the single operations in order.
func TestApplyIsItsOperations(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	recipe := mustRecipe(t, "byol")
	var scratch Scratch
	for i := range 300 {
		src := noise(rng, 1+rng.IntN(70), 1+rng.IntN(70))
		draws := NewRand(0, 0, uint64(i), 1)
		p := recipe.Sample(&draws, 1, src.Width, src.Height)
		got := NewPlanes(1+rng.IntN(70), 1+rng.IntN(70))
		p.Apply(got, src, &scratch)

		want := NewPlanes(got.Width, got.Height)
		fresh := new(Scratch) // what earlier views left in the scratch must not matter
		ResizedCrop(want, src, p.Crop, fresh)
		if p.Flip {
			want.HFlip()
		}
		for _, j := range p.Jitter[:p.Jitters] {
			map[Op]func(float64){
				OpBrightness: want.Brightness, OpContrast: want.Contrast, OpSaturation: want.Saturation, OpHue: want.Hue,
			}[j.Op](j.Factor)
		}
		if p.Grayscale {
			want.Grayscale()
		}
		want.GaussianBlur(p.BlurSigma, fresh)
		if p.Solarize {
			want.Solarize(128)
		}
		checkPlanes(t, got, want)
		if t.Failed() {
			t.Fatalf("view %d: %+v", i, p)
		}
	}
}

// TestApplyPanics: what only a programming error can bring about.
func TestApplyPanics(t *testing.T) {
	good := func() (ViewParams, Planes, Image) {
		return ViewParams{Crop: Rect{Width: 4, Height: 4}}, NewPlanes(8, 8), Image{Width: 4, Height: 4, Pix: make([]uint8, 48)}
	}
	for name, spoil := range map[string]func(*ViewParams, *Planes, *Image){
		"crop outside":  func(p *ViewParams, _ *Planes, _ *Image) { p.Crop.Left = 1 },
		"short planes":  func(_ *ViewParams, d *Planes, _ *Image) { d.Pix = d.Pix[1:] },
		"empty planes":  func(_ *ViewParams, d *Planes, _ *Image) { *d = Planes{} },
		"short image":   func(_ *ViewParams, _ *Planes, m *Image) { m.Pix = m.Pix[1:] },
		"negative size": func(_ *ViewParams, d *Planes, _ *Image) { d.Width, d.Height = -8, -8 },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			p, dst, src := good()
			spoil(&p, &dst, &src)
			p.Apply(dst, src, new(Scratch))
		})
	}
}

// guarded returns planes with guard bytes around them, and a check that the
// guards are as they were.
func guarded(t testing.TB, width, height int) (Planes, func()) {
	const guard, value = 64, 0xA5
	n := 3 * width * height
	buf := bytes.Repeat([]byte{value}, guard+n+guard)
	check := func() {
		t.Helper()
		for _, b := range [][]byte{buf[:guard], buf[guard+n:]} {
			if !bytes.Equal(b, bytes.Repeat([]byte{value}, guard)) {
				t.Errorf("bytes around the view of %d x %d pixels were written", width, height)
			}
		}
	}
	// The capacity goes on into the guard, so that nothing but care protects it.
	return Planes{Width: width, Height: height, Pix: buf[guard : guard+n]}, check
}

// TestApplyKeepsToItsBuffers: the source is not written, nor anything around
// the view, and all of the view is.
func TestApplyKeepsToItsBuffers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	var scratch Scratch
	eachSize(t, func(t *testing.T, width, height int) {
		src := noise(rng, 1+rng.IntN(70), 1+rng.IntN(70))
		before := slices.Clone(src.Pix)
		p := ViewParams{
			Crop: Rect{Width: src.Width, Height: src.Height}, Flip: true,
			Jitter: [4]Jitter{{OpHue, 0.1}, {OpContrast, 1.3}, {OpSaturation, 0.7}, {OpBrightness, 1.1}}, Jitters: 4,
			BlurSigma: 2, Solarize: true,
		}
		dst, check := guarded(t, width, height)
		p.Apply(dst, src, &scratch)
		check()
		if !bytes.Equal(src.Pix, before) {
			t.Error("the source was written")
		}
		want := NewPlanes(width, height) // of another content than dst had
		p.Apply(want, src, &scratch)
		checkPlanes(t, dst, want)
	})
}

// TestApplyDoesNotAllocate once the scratch has seen the views.
func TestApplyDoesNotAllocate(t *testing.T) { eachLevel(t, testApplyDoesNotAllocate) }

func testApplyDoesNotAllocate(t *testing.T) {
	src := noise(rand.New(rand.NewPCG(9, 10)), 150, 110)
	dst := NewPlanes(72, 72)
	recipe := mustRecipe(t, "byol")
	for i := range recipe.Views {
		recipe.Views[i].Grayscale = 0.5 // the more operations, the better
		recipe.Views[i].Jitter, recipe.Views[i].Blur, recipe.Views[i].Solarize = 1, 1, 1
	}
	var scratch Scratch
	index := uint64(0)
	views := func() {
		for view := range recipe.Views {
			rng := NewRand(0, 0, index%20, view)
			p := recipe.Sample(&rng, view, src.Width, src.Height)
			p.Apply(dst, src, &scratch)
			p.Coord(src.Width, src.Height)
		}
		index++
	}
	for range 20 {
		views()
	}
	if n := testing.AllocsPerRun(20, views); n != 0 {
		t.Errorf("%v allocations per pair of views, want none", n)
	}
}

// TestBlurSpreadsAsAGaussian measures the variance of a blurred line, which is
// about sigma^2, whatever 8-bit steps do.
func TestBlurSpreadsAsAGaussian(t *testing.T) {
	t.Parallel()
	var scratch Scratch
	const side = 129
	for _, sigma := range []float64{1, 2, 3.7, 8} {
		p := NewPlanes(side, side)
		for y := range side { // a bright column in the middle
			p.Pix[y*side+side/2] = 255
		}
		p.GaussianBlur(sigma, &scratch)
		var mass, moment float64
		for x, v := range p.Pix[side*side/2-side/2:][:side] {
			d := float64(x - side/2)
			mass += float64(v)
			moment += float64(v) * d * d
		}
		if got := math.Sqrt(moment / mass); math.Abs(got-sigma) > 0.15*sigma {
			t.Errorf("sigma %v spreads by %.3f", sigma, got)
		}
	}
}

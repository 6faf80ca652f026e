package augment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func mustRecipe(tb testing.TB, name string) Recipe {
	tb.Helper()
	r, err := LookupRecipe(name)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// sampleMany draws from an image of the given size, once for each index.
func sampleMany(r *Recipe, n, view, width, height int) []ViewParams {
	all := make([]ViewParams, n)
	for i := range all {
		rng := NewRand(4, 2, uint64(i), view)
		all[i] = r.Sample(&rng, view, width, height)
	}
	return all
}

const samples = 20_000

// TestCropIsUniform looks at crops that always fit, as they are drawn: area
// and place are uniform, the ratio is uniform in its logarithm.
func TestCropIsUniform(t *testing.T) {
	t.Parallel()
	r := mustRecipe(t, "byol")
	r.CropScale.Max = 0.5
	const side = 20_000 // so large that whole pixels do not matter
	var area, ratio, left, top []float64
	for _, p := range sampleMany(&r, samples, 0, side, side) {
		c := p.Crop
		area = append(area, float64(c.Width)*float64(c.Height)/(side*side))
		ratio = append(ratio, math.Log(float64(c.Width)/float64(c.Height)))
		left = append(left, (float64(c.Left)+0.5)/float64(side-c.Width+1))
		top = append(top, (float64(c.Top)+0.5)/float64(side-c.Height+1))
	}
	for _, test := range []struct {
		name      string
		values    []float64
		low, high float64
	}{
		{"area", area, 0.08, 0.5},
		{"logarithm of ratio", ratio, math.Log(3. / 4), math.Log(4. / 3)},
		{"left", left, 0, 1},
		{"top", top, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) { checkDistribution(t, test.values, uniform(test.low, test.high)) })
	}
}

// TestCropThatDoesNotFitIsDrawnAgain compares the areas of the usual crops of
// a square with the distribution that torchvision's rule leads to: of a part a
// of the area, those logarithms of ratios fit that are within -log a and log a.
func TestCropThatDoesNotFitIsDrawnAgain(t *testing.T) {
	r := mustRecipe(t, "byol")
	const side = 20_000
	var area []float64
	for _, p := range sampleMany(&r, samples, 0, side, side) {
		area = append(area, float64(p.Crop.Width)*float64(p.Crop.Height)/(side*side))
	}
	widest := math.Log(4. / 3)
	// The integral of min(widest, -log a) from the least scale to a.
	mass := func(a float64) float64 {
		const least, knee = 0.08, 3. / 4
		if a <= knee {
			return widest * (a - least)
		}
		primitive := func(a float64) float64 { return a - a*math.Log(a) }
		return widest*(knee-least) + primitive(a) - primitive(knee)
	}
	checkDistribution(t, area, func(a float64) float64 { return mass(a) / mass(1) })
}

// TestCropFallback draws from shapes that no crop of the recipe fits: after
// ten attempts it is the largest centred crop of the nearest ratio.
func TestCropFallback(t *testing.T) {
	whole := mustRecipe(t, "none")
	whole.CropScale.Min = 1
	whole.CropRatio = Range{Min: 0.5, Max: 2}
	usual := mustRecipe(t, "none")
	halves := mustRecipe(t, "none")
	halves.CropRatio = Range{Min: 1, Max: 1.5}
	for _, test := range []struct {
		name          string
		recipe        Recipe
		width, height int
		want          Rect
	}{
		{"wide", usual, 1000, 10, Rect{Left: 493, Top: 0, Width: 13, Height: 10}},
		{"tall", usual, 10, 1001, Rect{Left: 0, Top: 494, Width: 10, Height: 13}},
		{"one row", usual, 500, 1, Rect{Left: 249, Top: 0, Width: 1, Height: 1}},
		{"one column", usual, 1, 500, Rect{Left: 0, Top: 249, Width: 1, Height: 1}},
		{"half to even", halves, 1000, 3, Rect{Left: 498, Top: 0, Width: 4, Height: 3}},
		{"whole image", whole, 3000, 3000, Rect{Width: 3000, Height: 3000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, p := range sampleMany(&test.recipe, 20, 0, test.width, test.height) {
				if p.Crop != test.want {
					t.Fatalf("crop is %+v, want %+v", p.Crop, test.want)
				}
			}
		})
	}
}

// TestJitterIsUniform looks at factors and at the order of the operations.
func TestJitterIsUniform(t *testing.T) {
	t.Parallel()
	r := mustRecipe(t, "byol")
	r.Views[0].Jitter = 1
	factors := map[Op][]float64{}
	orders := make([]int, 24)
	for _, p := range sampleMany(&r, samples, 0, 500, 375) {
		if p.Jitters != 4 {
			t.Fatalf("%d operations, want 4", p.Jitters)
		}
		var order [4]int
		for i, j := range p.Jitter {
			order[i] = int(j.Op)
			factors[j.Op] = append(factors[j.Op], j.Factor)
		}
		orders[orderNumber(t, order)]++
	}
	t.Run("order", func(t *testing.T) { checkEven(t, orders) })
	for op, want := range map[Op]Range{
		OpBrightness: {0.6, 1.4}, OpContrast: {0.6, 1.4}, OpSaturation: {0.8, 1.2}, OpHue: {-0.1, 0.1},
	} {
		t.Run(op.String(), func(t *testing.T) { checkDistribution(t, factors[op], uniform(want.Min, want.Max)) })
	}
}

// TestStrongJitterStaysAboveZero: factors begin at 0 for strengths above 1.
func TestStrongJitterStaysAboveZero(t *testing.T) {
	r := mustRecipe(t, "none")
	r.Views[0].Jitter, r.Views[0].Contrast = 1, 2
	var factors []float64
	for _, p := range sampleMany(&r, samples, 0, 100, 100) {
		if p.Jitters != 1 || p.Jitter[0].Op != OpContrast {
			t.Fatalf("%d operations %+v, want contrast alone: the others have strength 0", p.Jitters, p.Jitter)
		}
		factors = append(factors, p.Jitter[0].Factor)
	}
	checkDistribution(t, factors, uniform(0, 3))
}

// TestProbabilities counts what happens to the views of each recipe.
func TestProbabilities(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		recipe string
		view   int
		want   ViewRecipe // its probabilities
	}{
		{"byol", 0, ViewRecipe{Flip: 0.5, Jitter: 0.8, Grayscale: 0.2, Blur: 1, Solarize: 0}},
		{"byol", 1, ViewRecipe{Flip: 0.5, Jitter: 0.8, Grayscale: 0.2, Blur: 0.1, Solarize: 0.2}},
		{"none", 0, ViewRecipe{Flip: 0.5}},
		{"none", 1, ViewRecipe{Flip: 0.5}},
		{"simclr", 0, ViewRecipe{Flip: 0.5, Jitter: 0.8, Grayscale: 0.2, Blur: 0.5}},
		{"simclr", 1, ViewRecipe{Flip: 0.5, Jitter: 0.8, Grayscale: 0.2, Blur: 0.5}},
		{"mocov2", 0, ViewRecipe{Flip: 0.5, Jitter: 0.8, Grayscale: 0.2, Blur: 0.5}},
		{"instdisc", 1, ViewRecipe{Flip: 0.5, Jitter: 1}}, // its grayscale is a jitter: TestGrayscaleFirst
	} {
		t.Run(fmt.Sprintf("%s view %d", test.recipe, test.view+1), func(t *testing.T) {
			r := mustRecipe(t, test.recipe)
			var flip, jitter, grayscale, blur, solarize int
			var sigmas []float64
			count := func(n *int, happened bool) {
				if happened {
					*n++
				}
			}
			for _, p := range sampleMany(&r, samples, test.view, 500, 375) {
				count(&flip, p.Flip)
				count(&jitter, p.Jitters > 0)
				count(&grayscale, p.Grayscale)
				count(&blur, p.BlurSigma > 0)
				count(&solarize, p.Solarize)
				if p.BlurSigma > 0 {
					sigmas = append(sigmas, p.BlurSigma)
				}
			}
			checkProbability(t, "flip", flip, samples, test.want.Flip)
			checkProbability(t, "jitter", jitter, samples, test.want.Jitter)
			checkProbability(t, "grayscale", grayscale, samples, test.want.Grayscale)
			checkProbability(t, "blur", blur, samples, test.want.Blur)
			checkProbability(t, "solarize", solarize, samples, test.want.Solarize)
			if len(sigmas) > 0 {
				t.Run("sigma", func(t *testing.T) { checkDistribution(t, sigmas, uniform(0.1, 2)) })
			}
		})
	}
}

// TestSampleIsAFunctionOfItsNumbers: the same seed, epoch, index and view draw
// the same, and a change of any of them something else.
func TestSampleIsAFunctionOfItsNumbers(t *testing.T) {
	r := mustRecipe(t, "byol")
	sample := func(seed, epoch, index uint64, view int) ViewParams {
		rng := NewRand(seed, epoch, index, view)
		return r.Sample(&rng, view, 500, 375)
	}
	want := sample(1, 2, 3, 0)
	sample(9, 9, 9, 1)
	if got := sample(1, 2, 3, 0); got != want {
		t.Errorf("drawn again: %+v, first: %+v", got, want)
	}
	for name, other := range map[string]ViewParams{
		"seed": sample(2, 2, 3, 0), "epoch": sample(1, 3, 3, 0), "index": sample(1, 2, 4, 0), "view": sample(1, 2, 3, 1),
	} {
		if other.Crop == want.Crop {
			t.Errorf("another %s draws the same crop", name)
		}
	}
}

// TestSampleIsValid draws from images of all small sizes and of odd shapes.
func TestSampleIsValid(t *testing.T) {
	t.Parallel()
	check := func(r *Recipe, width, height int) {
		for view := range r.Views {
			for _, p := range sampleMany(r, 3, view, width, height) {
				if err := p.Validate(width, height); err != nil {
					t.Fatalf("%s, image of %d x %d: %v", r.Name, width, height, err)
				}
			}
		}
	}
	extreme := mustRecipe(t, "byol")
	extreme.CropScale = Range{Min: 1e-6, Max: 1}
	extreme.CropRatio = Range{Min: 100, Max: 1000}
	for _, r := range []Recipe{mustRecipe(t, "byol"), mustRecipe(t, "instdisc"), mustRecipe(t, "randaug"), extreme} {
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		for width := 1; width <= 70; width++ {
			for height := 1; height <= 70; height++ {
				check(&r, width, height)
			}
		}
		check(&r, 1, 65_535)
		check(&r, 65_535, 1)
		check(&r, 65_535, 65_535)
	}
}

// TestGrayscaleFirst: the parameters give what a grayscale before the jitter
// gives.
func TestGrayscaleFirst(t *testing.T) {
	t.Parallel()
	first := mustRecipe(t, "instdisc")
	after := first
	after.Views[0].GrayscaleFirst = false
	src := noise(rand.New(rand.NewPCG(1, 2)), 40, 30)
	var scratch Scratch
	grey := 0
	for i := range 200 {
		a, b := NewRand(1, 2, uint64(i), 0), NewRand(1, 2, uint64(i), 0)
		got, drawn := first.Sample(&a, 0, src.Width, src.Height), after.Sample(&b, 0, src.Width, src.Height)
		want := NewPlanes(32, 32)
		crop := ViewParams{Crop: drawn.Crop, Flip: drawn.Flip, Grayscale: drawn.Grayscale}
		crop.Apply(want, src, &scratch)
		for _, j := range drawn.Jitter[:drawn.Jitters] {
			j.Apply(want, &scratch)
		}
		view := NewPlanes(32, 32)
		got.Apply(view, src, &scratch)
		if checkPlanes(t, view, want); t.Failed() {
			t.Fatalf("view %d: %+v, drawn %+v", i, got, drawn)
		}
		if got.Grayscale {
			t.Fatal("grayscale comes last")
		}
		if drawn.Grayscale {
			grey++
		}
	}
	checkProbability(t, "grayscale", grey, 200, 0.2)
}

// TestRandAugment counts operations and looks at their factors.
func TestRandAugment(t *testing.T) {
	r := mustRecipe(t, "randaug")
	r.Views[0].RandOps = 1
	counts := make([]int, len(randAugment)+1)
	more, less := 0, 0
	for _, p := range sampleMany(&r, samples, 0, 100, 100) {
		if p.Jitters == 0 {
			counts[len(randAugment)]++
			continue
		}
		j := p.Jitter[0]
		counts[slices.Index(randAugment[:], j.Op)]++
		switch j.Op {
		case OpPosterize:
			if j.Factor != 7 {
				t.Fatalf("posterize to %v bits, want 7", j.Factor)
			}
		case OpSolarize:
			if j.Factor != 178.5 {
				t.Fatalf("solarize from %v, want 178.5", j.Factor)
			}
		case OpAutoContrast, OpEqualize:
		default:
			if math.Abs(math.Abs(j.Factor-1)-0.27) > 1e-6 {
				t.Fatalf("%v factor %v, want 0.73 or 1.27", j.Op, j.Factor)
			}
			if j.Factor > 1 {
				more++
			} else {
				less++
			}
		}
	}
	t.Run("operations", func(t *testing.T) { checkEven(t, counts) })
	t.Run("signs", func(t *testing.T) { checkEven(t, []int{more, less}) })

	two := mustRecipe(t, "randaug")
	longest := 0
	for _, p := range sampleMany(&two, 100, 1, 100, 100) {
		longest = max(longest, p.Jitters)
	}
	if longest != 2 {
		t.Errorf("at most %d operations, want 2", longest)
	}
}

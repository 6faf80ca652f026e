package augment

import (
	"math/rand/v2"
	"testing"
)

func TestLargestScale(t *testing.T) {
	crop := func(width, height int) ViewParams { return ViewParams{Crop: Rect{Width: width, Height: height}} }
	for _, test := range []struct {
		name  string
		views []ViewParams
		want  int
	}{
		{"just eight times", []ViewParams{crop(1792, 1792)}, 8},
		{"one pixel less", []ViewParams{crop(1792, 1791)}, 4},
		{"the smaller crop decides", []ViewParams{crop(4000, 4000), crop(500, 900)}, 2},
		{"in either order", []ViewParams{crop(500, 900), crop(4000, 4000)}, 2},
		{"a small crop", []ViewParams{crop(100, 100), crop(4000, 4000)}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := LargestScale(224, 224, test.views...); got != test.want {
				t.Errorf("scale is %d, want %d", got, test.want)
			}
		})
	}
}

// TestScaled: crops stay inside the scaled image, at most a pixel from where
// they were, and nothing else changes.
func TestScaled(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	recipe := mustRecipe(t, "byol")
	for i := range 3000 {
		width, height := 1+rng.IntN(300), 1+rng.IntN(300)
		divisor := 1 << rng.IntN(4)
		toWidth, toHeight := (width+divisor-1)/divisor, (height+divisor-1)/divisor
		draws := NewRand(1, 2, uint64(i), 0)
		p := recipe.Sample(&draws, 0, width, height)
		s := p.Scaled(width, height, toWidth, toHeight)
		if err := s.Validate(toWidth, toHeight); err != nil {
			t.Fatalf("%d x %d to %d x %d: %v", width, height, toWidth, toHeight, err)
		}
		near := func(got, was, from, to int) {
			t.Helper()
			if d := float64(got) - float64(was)*float64(to)/float64(from); d < -1 || d > 1 {
				t.Fatalf("%d of %d became %d of %d", was, from, got, to)
			}
		}
		near(s.Crop.Left, p.Crop.Left, width, toWidth)
		near(s.Crop.Left+s.Crop.Width, p.Crop.Left+p.Crop.Width, width, toWidth)
		near(s.Crop.Top, p.Crop.Top, height, toHeight)
		near(s.Crop.Top+s.Crop.Height, p.Crop.Top+p.Crop.Height, height, toHeight)
		if divisor == 1 && s != p {
			t.Fatalf("%+v became %+v without scaling", p, s)
		}
		s.Crop = p.Crop
		if s != p {
			t.Fatalf("more than the crop has changed: %+v, %+v", p, s)
		}
	}
}

package synth

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDistances(t *testing.T) {
	sqrt3, sqrt2 := math.Sqrt(3), math.Sqrt2
	for _, c := range []struct {
		name string
		d    shape
		x, y float64
		want float64
	}{
		{"disc centre", disc(), 0, 0, -1},
		{"disc outside", disc(), 3, 4, 4},
		{"ring hole", ring(0.25), 0, 0, 0.5},
		{"ring band", ring(0.25), 0, -0.75, -0.25},
		{"square centre", polygon(4, 0), 0, 0, -1 / sqrt2},
		{"square beside a side", polygon(4, 0), 0, 2, 2 - 1/sqrt2},
		{"square beyond a corner", polygon(4, 0), 1, 1, sqrt2 * (1 - 1/sqrt2)},
		{"triangle centre", polygon(3, 0), 0, 0, -0.5},
		{"triangle tip", polygon(3, 0), -1, 0, 0},
		{"triangle side", polygon(3, 0), 0.5, sqrt3 / 4, 0},
		{"round corner", polygon(4, 0.2), sqrt2, sqrt2, 1},
		{"star tip", star(5, 0.5, 0), 1, 0, 0},
		{"beyond a star's tip", star(5, 0.5, 0), 1.5, 0, 0.5},
		{"star's inner corner", star(6, 0.5, 0), 0.5 * sqrt3 / 2, 0.25, 0},
		{"capsule's end", capsule(0.4), 1.5, 0, 0.5},
		{"capsule's side", capsule(0.4), -0.3, -1, 0.6},
		{"capsule centre", capsule(0.4), 0, 0, -0.4},
	} {
		if got := c.d(c.x, c.y); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}

// No distance grows faster than the way walked, and outside the unit circle
// there is nothing. Blobs are exact only near their edge.
func TestDistancesAreDistances(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		shapes := []shape{disc(), ring(0.25), polygon(3+rng.IntN(4), 0.1), star(5, 0.5, 0.05), capsule(0.5)}
		d := shapes[rng.IntN(len(shapes))]
		x, y := between(rng, -2, 2), between(rng, -2, 2)
		u, v := between(rng, -2, 2), between(rng, -2, 2)
		if a, b := d(x, y), d(u, v); math.Abs(a-b) > math.Hypot(x-u, y-v)+1e-12 {
			t.Fatalf("%g at (%g, %g) and %g at (%g, %g)", a, x, y, b, u, v)
		}
		if r := math.Hypot(x, y); r > 1 && (d(x, y) < r-1-1e-12 || blob(rng)(x, y) < 0) {
			t.Fatalf("a shape at (%g, %g), outside the unit circle", x, y)
		}
	}
}

// A texture is a mixture of two colours, and all but plain use both of them.
func TestTextures(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, class := range textures {
		for range 20 {
			pattern := class.draw(rng, between(rng, 6, 40))
			lo, hi := 1.0, 0.0
			for range 3000 {
				v := pattern(between(rng, -60, 60), between(rng, -60, 60))
				lo, hi = min(lo, v), max(hi, v)
			}
			if lo < 0 || hi > 1 || (class.name != "plain" && hi-lo < 0.8) {
				t.Fatalf("%s: from %g to %g", class.name, lo, hi)
			}
		}
	}
}

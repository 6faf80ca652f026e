package synth

import (
	"math"
	"math/rand/v2"
)

// texture gives the mixture of an object's two colours, 0 to 1, at a point of
// the object, in pixels from its centre.
type texture func(x, y float64) float64

// textures are the classes. period is the size in pixels at which the pattern
// repeats itself.
var textures = []struct {
	name string
	draw func(rng *rand.Rand, period float64) texture
}{
	{"stripes", stripes},
	{"checks", checks},
	{"dots", dots},
	{"rings", rings},
	{"noise", cloudy},
	{"plain", plain},
}

// wave is a square wave of period 1 with edges soft over one pixel.
func wave(t, pixel float64) float64 {
	t -= math.Floor(t)
	return smoothstep(-pixel/2, pixel/2, 0.25-math.Abs(t-0.5))
}

func stripes(rng *rand.Rand, period float64) texture {
	seed, bend := rng.Uint32(), between(rng, 0, 0.25)
	return func(x, y float64) float64 {
		x, y = x/period, y/period
		return wave(x+bend*gradientNoise(x/3, y/3, seed), 1/period)
	}
}

func checks(_ *rand.Rand, period float64) texture {
	return func(x, y float64) float64 {
		a, b := wave(x/period, 1/period), wave(y/period, 1/period)
		return a*(1-b) + b*(1-a)
	}
}

// dots stand in rows, every other row shifted by half a step.
func dots(rng *rand.Rand, period float64) texture {
	radius := between(rng, 0.25, 0.33)
	row := math.Sqrt(3) / 2 // of the triangular lattice of step 1
	return func(x, y float64) float64 {
		x, y = x/period, y/period
		nearest := math.Inf(1)
		for _, r := range [2]float64{math.Floor(y / row), math.Floor(y/row) + 1} {
			px := x - 0.5*math.Mod(math.Abs(r), 2)
			px -= math.Round(px)
			nearest = min(nearest, math.Hypot(px, y-r*row))
		}
		return smoothstep(-0.5/period, 0.5/period, radius-nearest)
	}
}

// rings are a tree's: uneven, and darkening slowly outwards to a sharp edge.
func rings(rng *rand.Rand, period float64) texture {
	seed := rng.Uint32()
	cx, cy := between(rng, -1, 1)*period, between(rng, -1, 1)*period
	return func(x, y float64) float64 {
		x, y = (x-cx)/period, (y-cy)/period
		r := math.Hypot(x, y) + 0.5*fractal(x/2, y/2, 3, seed)
		r -= math.Floor(r)
		edge := max(1.2/period, 0.12)
		return r*r*0.35 + 0.65*smoothstep(0.5, 0.5+edge, r)*(1-smoothstep(1-edge, 1, r))
	}
}

func cloudy(rng *rand.Rand, period float64) texture {
	seed := rng.Uint32()
	return func(x, y float64) float64 {
		x, y = x/period, y/period
		bend := 0.6 * fractal(x, y, 2, seed+100)
		return smoothstep(-0.45, 0.45, fractal(x+bend, y-bend, 5, seed))
	}
}

func plain(*rand.Rand, float64) texture {
	return func(float64, float64) float64 { return 0 }
}

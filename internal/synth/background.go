package synth

import (
	"math"
	"math/rand/v2"
)

// surface gives the colour of every pixel.
type surface func(x, y float64) rgb

// drawBackground draws one of four kinds of background for a picture of that
// size, and tells the colour that it has on the whole.
func drawBackground(rng *rand.Rand, width, height int) (surface, oklch) {
	look := drawRamp(rng)
	kinds := []func(*rand.Rand, ramp, float64, float64) surface{clouds, grain, pebbles, land}
	kind := kinds[rng.IntN(len(kinds))]
	return kind(rng, look, float64(width), float64(height)), look[1]
}

// drawOctaves draws how fine a texture goes: few octaves look out of focus.
func drawOctaves(rng *rand.Rand) int { return 2 + rng.IntN(5) }

// clouds is fractal noise bent by fractal noise: plaster, moss, a blurred wood.
func clouds(rng *rand.Rand, look ramp, width, height float64) surface {
	colours, octaves, seed := look.table(), drawOctaves(rng), rng.Uint32()
	frequency := between(rng, 2, 6) / max(width, height)
	bend, contrast := between(rng, 0, 1.2), between(rng, 0.4, 0.8)
	return func(x, y float64) rgb {
		x, y = x*frequency, y*frequency
		bx := bend * fractal(x, y, 2, seed+100)
		by := bend * fractal(x, y, 2, seed+200)
		return colours.at(0.5 + contrast*fractal(x+bx, y+by, octaves, seed))
	}
}

// grain is noise drawn out in one direction: wood, cloth, brushed metal, grass.
func grain(rng *rand.Rand, look ramp, width, height float64) surface {
	colours, octaves, seed := look.table(), drawOctaves(rng), rng.Uint32()
	fine := between(rng, 8, 20) / max(width, height)
	coarse := fine / between(rng, 6, 14)
	sin, cos := math.Sincos(between(rng, 0, math.Pi))
	contrast := between(rng, 0.35, 0.7)
	return func(x, y float64) rgb {
		u, v := (cos*x+sin*y)*coarse, (cos*y-sin*x)*fine
		v += 1.5 * gradientNoise(u, v/8, seed+100)
		return colours.at(0.5 + contrast*fractal(u, v, octaves, seed))
	}
}

// pebbles are Worley's cells, each of its own brightness and rough by noise:
// gravel, paving, cracked earth.
func pebbles(rng *rand.Rand, look ramp, width, height float64) surface {
	colours, octaves, seed := look.table(), drawOctaves(rng), rng.Uint32()
	frequency := between(rng, 5, 12) / max(width, height)
	gap, soft := between(rng, 0.02, 0.1), between(rng, 0.1, 0.3)
	return func(x, y float64) rgb {
		x, y = x*frequency, y*frequency
		rough := fractal(2*x, 2*y, octaves, seed+100)
		first, second, id := cells(x+0.15*rough, y+0.15*rough, seed)
		top := 0.25 + 0.5*unit(id>>8) + 0.3*rough + 0.2*(0.5-first)
		return colours.at(top).scale(0.35 + 0.65*smoothstep(gap, gap+soft, second-first))
	}
}

// land is a ground that runs away to a horizon, below a sky.
func land(rng *rand.Rand, look ramp, width, height float64) surface {
	ground, octaves, seed := look.table(), drawOctaves(rng), rng.Uint32()
	hue := between(rng, 225, 260)
	sky := ramp{{0.62, 0.09, hue}, {0.78, 0.06, hue - 10}, {0.93, 0.02, between(rng, 60, 240)}}.table()
	horizon := height * between(rng, 0.25, 0.5)
	hills := height * between(rng, 0.02, 0.12)
	cloudy := between(rng, 0, 0.5)
	soft := between(rng, 0.6, 2) // pixels
	return func(x, y float64) rgb {
		ridge := horizon - hills*(0.5+fractal(3*x/width, 0.5, 3, seed+100))
		above := sky.at(y/horizon + cloudy*fractal(2*x/width, 5*y/height, 4, seed+200))
		// A plane seen at a slant: distance goes as one over the height below
		// the horizon.
		depth := height / (max(y-ridge, 0) + 0.12*height)
		u, v := (x-width/2)/width*depth, 1.6*depth
		tone := 0.5 + 0.7*fractal(3*u+7, 3*v, octaves, seed)
		haze := 0.35 * smoothstep(4, 8.5, depth)
		below := mixRGB(ground.at(tone), sky[len(sky)-1], haze)
		return mixRGB(above, below, smoothstep(-soft, soft, y-ridge))
	}
}

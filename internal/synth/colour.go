package synth

import (
	"math"
	"math/rand/v2"
)

// rgb is a colour in linear light, 1 being white.
type rgb [3]float64

func (c rgb) scale(f float64) rgb { return rgb{c[0] * f, c[1] * f, c[2] * f} }

func mixRGB(a, b rgb, t float64) rgb {
	return rgb{mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)}
}

// oklch is a colour in the cylinder form of Oklab (B. Ottosson, "A perceptual
// color space for image processing", 2020): lightness 0 to 1, chroma 0 to
// about 0.3, hue in degrees. Equal distances look about equally large in it.
type oklch struct{ l, c, h float64 }

func (k oklch) ab() (a, b float64) {
	sin, cos := math.Sincos(k.h * math.Pi / 180)
	return k.c * cos, k.c * sin
}

// rgb converts to linear sRGB, cut to its gamut.
func (k oklch) rgb() rgb {
	a, b := k.ab()
	l := k.l + 0.3963377774*a + 0.2158037573*b
	m := k.l - 0.1055613458*a - 0.0638541728*b
	s := k.l - 0.0894841775*a - 1.2914855480*b
	l, m, s = l*l*l, m*m*m, s*s*s
	return rgb{
		clamp(4.0767416621*l-3.3077115913*m+0.2309699292*s, 0, 1),
		clamp(-1.2684380046*l+2.6097574011*m-0.3413193965*s, 0, 1),
		clamp(-0.0041960863*l-0.7034186147*m+1.7076147010*s, 0, 1),
	}
}

func (k oklch) distance(o oklch) float64 {
	a1, b1 := k.ab()
	a2, b2 := o.ab()
	return math.Sqrt((k.l-o.l)*(k.l-o.l) + (a1-a2)*(a1-a2) + (b1-b2)*(b1-b2))
}

// drawColour draws any colour from muted to vivid, neither black nor white.
func drawColour(rng *rand.Rand) oklch {
	return oklch{between(rng, 0.35, 0.9), between(rng, 0.02, 0.19), between(rng, 0, 360)}
}

// drawPalette draws the two colours of an object's texture: the first stands
// out from the background, the second from the first, mostly by lightness,
// since that is what a texture must be told by.
func drawPalette(rng *rand.Rand, background oklch) [2]oklch {
	first := drawColour(rng)
	for first.distance(background) < 0.22 {
		first = drawColour(rng)
	}
	second := drawColour(rng)
	for math.Abs(second.l-first.l) < 0.25 {
		second = drawColour(rng)
	}
	return [2]oklch{first, second}
}

// ramp is a row of colours that a number from 0 to 1 runs through.
type ramp [3]oklch

// ramps are the looks of backgrounds, dark to light.
var ramps = []ramp{
	{{0.30, 0.06, 135}, {0.48, 0.10, 130}, {0.70, 0.13, 120}}, // grass
	{{0.52, 0.04, 75}, {0.68, 0.06, 80}, {0.85, 0.05, 88}},    // sand
	{{0.35, 0.01, 250}, {0.55, 0.01, 240}, {0.76, 0.01, 80}},  // stone
	{{0.30, 0.05, 50}, {0.48, 0.08, 58}, {0.66, 0.09, 68}},    // wood
	{{0.35, 0.07, 240}, {0.55, 0.09, 230}, {0.80, 0.06, 215}}, // water
	{{0.32, 0.08, 35}, {0.52, 0.13, 45}, {0.72, 0.14, 70}},    // autumn leaves
	{{0.62, 0.03, 250}, {0.80, 0.02, 245}, {0.94, 0.01, 230}}, // snow
	{{0.22, 0.02, 60}, {0.32, 0.03, 55}, {0.47, 0.04, 60}},    // soil
	{{0.40, 0.07, 330}, {0.55, 0.09, 340}, {0.73, 0.08, 355}}, // cloth
}

// drawRamp draws a look and shifts it a little in hue and lightness.
func drawRamp(rng *rand.Rand) ramp {
	r := ramps[rng.IntN(len(ramps))]
	hue, light := between(rng, -18, 18), between(rng, -0.05, 0.05)
	for i := range r {
		r[i].h += hue
		r[i].l += light
	}
	return r
}

// rampTable is a ramp in linear light, fine enough to look up.
type rampTable [65]rgb

func (r ramp) table() *rampTable {
	var t rampTable
	for i := range t {
		x := 2 * float64(i) / float64(len(t)-1)
		a, b := r[0].rgb(), r[1].rgb()
		if x >= 1 {
			a, b, x = b, r[2].rgb(), x-1
		}
		t[i] = mixRGB(a, b, x)
	}
	return &t
}

// at returns the colour at x, where 0 and 1 are the ends.
func (t *rampTable) at(x float64) rgb {
	x = clamp(x, 0, 1) * float64(len(t)-1)
	i := min(int(x), len(t)-2)
	return mixRGB(t[i], t[i+1], x-float64(i))
}

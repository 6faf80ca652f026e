package synth

import "math"

// hash mixes a lattice point and a seed into 32 even bits (the finaliser of
// MurmurHash3 over a sum of odd multiples).
func hash(x, y int32, seed uint32) uint32 {
	h := uint32(x)*0x9e3779b1 + uint32(y)*0x85ebca77 + seed*0xc2b2ae3d
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	h ^= h >> 16
	return h
}

// unit turns 16 bits of a hash into a number in [0, 1).
func unit(h uint32) float64 { return float64(h&0xffff) / (1 << 16) }

// gradients are 16 directions on the unit circle.
var gradients = func() (g [16][2]float64) {
	for i := range g {
		g[i][1], g[i][0] = math.Sincos(2 * math.Pi * float64(i) / float64(len(g)))
	}
	return g
}()

// gradientNoise is Perlin's noise (2002 form, fifth-degree fade) on the unit
// lattice, within about -0.7 to 0.7, zero at the lattice points.
func gradientNoise(x, y float64, seed uint32) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	ix, iy := int32(fx), int32(fy)
	x, y = x-fx, y-fy
	corner := func(dx, dy int32) float64 {
		g := &gradients[hash(ix+dx, iy+dy, seed)>>28]
		return g[0]*(x-float64(dx)) + g[1]*(y-float64(dy))
	}
	u, v := fade(x), fade(y)
	return mix(mix(corner(0, 0), corner(1, 0), u), mix(corner(0, 1), corner(1, 1), u), v)
}

func fade(t float64) float64 { return t * t * t * (t*(t*6-15) + 10) }

// fractal sums octaves of gradient noise, each of twice the frequency and half
// the height of the last. It is within about -1 to 1.
func fractal(x, y float64, octaves int, seed uint32) float64 {
	sum, height := 0.0, 1.0
	for o := range octaves {
		sum += height * gradientNoise(x, y, seed+uint32(o))
		// The shift keeps the octaves' lattice points, where all are zero,
		// from falling together.
		x, y, height = 2*x+0.37, 2*y+0.61, height/2
	}
	return sum
}

// cells is Worley's noise: the distances to the nearest and the second nearest
// of points scattered one to a lattice cell, and the hash of the nearest.
func cells(x, y float64, seed uint32) (first, second float64, id uint32) {
	ix, iy := int32(math.Floor(x)), int32(math.Floor(y))
	first, second = math.Inf(1), math.Inf(1)
	for dy := int32(-1); dy <= 1; dy++ {
		for dx := int32(-1); dx <= 1; dx++ {
			h := hash(ix+dx, iy+dy, seed)
			px := float64(ix+dx) + unit(h) - x
			py := float64(iy+dy) + unit(h>>16) - y
			d := px*px + py*py
			if d < first {
				first, second, id = d, first, h
			} else if d < second {
				second = d
			}
		}
	}
	return math.Sqrt(first), math.Sqrt(second), id
}

func mix(a, b, t float64) float64 { return a + (b-a)*t }

func clamp(x, lo, hi float64) float64 { return min(max(x, lo), hi) }

// smoothstep rises from 0 at a to 1 at b with level ends.
func smoothstep(a, b, x float64) float64 {
	t := clamp((x-a)/(b-a), 0, 1)
	return t * t * (3 - 2*t)
}

package synth

import (
	"math"
	"math/rand/v2"
)

// shape is a signed distance function: the distance of (x, y) from the edge,
// negative inside. Shapes lie within the unit circle around the origin.
type shape func(x, y float64) float64

// drawShape draws one of the kinds of shape, with proportions of its own.
func drawShape(rng *rand.Rand) shape {
	switch rng.IntN(6) {
	case 0:
		return disc()
	case 1:
		return ring(between(rng, 0.22, 0.3))
	case 2:
		return polygon(3+rng.IntN(4), between(rng, 0.05, 0.2))
	case 3:
		return star(5+rng.IntN(3), between(rng, 0.45, 0.65), between(rng, 0.02, 0.08))
	case 4:
		return capsule(between(rng, 0.4, 0.6))
	default:
		return blob(rng)
	}
}

func disc() shape {
	return func(x, y float64) float64 { return math.Hypot(x, y) - 1 }
}

// ring has the given half width.
func ring(half float64) shape {
	return func(x, y float64) float64 { return math.Abs(math.Hypot(x, y)-(1-half)) - half }
}

// polygon is regular, with corners rounded by the given radius.
func polygon(corners int, radius float64) shape {
	half := math.Pi / float64(corners)
	apothem := (1 - radius) * math.Cos(half)
	side := apothem * math.Tan(half) // half a side
	return func(x, y float64) float64 {
		// Folded so that one side's centre lies on the x axis.
		x, y = fold(x, y, 2*half)
		if y <= side {
			return x - apothem - radius
		}
		return math.Hypot(x-apothem, y-side) - radius
	}
}

// star has its tips on the unit circle and its inner corners at the given
// distance, both rounded by the radius.
func star(tips int, inner, radius float64) shape {
	half := math.Pi / float64(tips)
	outer := 1 - radius
	sin, cos := math.Sincos(half)
	// One edge, from a tip on the x axis to an inner corner.
	ex, ey := inner*cos-outer, inner*sin
	length := ex*ex + ey*ey
	return func(x, y float64) float64 {
		x, y = fold(x, y, 2*half)
		x -= outer
		t := clamp((x*ex+y*ey)/length, 0, 1)
		d := math.Hypot(x-t*ex, y-t*ey)
		if ex*y-ey*x > 0 { // on the origin's side of the edge
			d = -d
		}
		return d - radius
	}
}

// capsule is a stadium of the given half width.
func capsule(half float64) shape {
	return func(x, y float64) float64 {
		return math.Hypot(max(math.Abs(x)-(1-half), 0), y) - half
	}
}

// blob is a disc with a wavy edge. Its distance is exact only near the edge
// and where the edge runs across the radius, which is enough for drawing.
func blob(rng *rand.Rand) shape {
	var height, phase [3]float64
	sum := 0.0
	for i := range height {
		height[i] = between(rng, 0, 0.12) / float64(i+1)
		phase[i] = between(rng, 0, 2*math.Pi)
		sum += height[i]
	}
	return func(x, y float64) float64 {
		angle := math.Atan2(y, x)
		edge := 1 - sum
		for i := range height {
			edge += height[i] * math.Sin(float64(i+2)*angle+phase[i])
		}
		return math.Hypot(x, y) - edge
	}
}

// fold turns (x, y) by a multiple of the angle, and mirrors it, so that it
// comes to lie between the x axis and half the angle above it.
func fold(x, y, angle float64) (float64, float64) {
	a := math.Atan2(y, x)
	a -= angle * math.Round(a/angle)
	sin, cos := math.Sincos(math.Abs(a))
	r := math.Hypot(x, y)
	return r * cos, r * sin
}

package synth

import (
	"image"
	"math"
	"math/rand/v2"
)

// photograph does to a picture what a camera does: exposure, a colour cast,
// dark corners, a slight blur, sensor noise, and the sRGB curve.
func photograph(rng *rand.Rand, c *canvas) *image.RGBA {
	exposure := math.Exp2(between(rng, -0.35, 0.45))
	warmth := between(rng, -0.08, 0.08)
	gain := rgb{exposure * (1 + warmth), exposure, exposure * (1 - warmth)}
	corners := between(rng, 0, 0.3)
	blur(c, between(rng, 0.35, 0.75))
	// Read noise is even; shot noise grows as the root of the light.
	read, shot := between(rng, 0.0005, 0.002), between(rng, 0.004, 0.016)

	img := image.NewRGBA(image.Rect(0, 0, c.width, c.height))
	cx, cy := float64(c.width)/2, float64(c.height)/2
	diagonal := cx*cx + cy*cy
	for y := range c.height {
		for x := range c.width {
			dx, dy := float64(x)+0.5-cx, float64(y)+0.5-cy
			fall := 1 - corners*(dx*dx+dy*dy)/diagonal
			p := c.pix[y*c.width+x]
			out := img.Pix[img.PixOffset(x, y):][:4]
			for k := range p {
				v := max(p[k]*gain[k]*fall, 0)
				v += rng.NormFloat64() * (read + shot*math.Sqrt(v))
				out[k] = encodeSRGB(v)
			}
			out[3] = 255
		}
	}
	return img
}

// blur convolves the picture with a Gaussian of the given width, edges
// repeated.
func blur(c *canvas, sigma float64) {
	const reach = 2 // pixels; at 0.75 the weight beyond is under 1 in 1000
	var kernel [2*reach + 1]float64
	sum := 0.0
	for i := range kernel {
		d := float64(i - reach)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= sum
	}
	line := make([]rgb, max(c.width, c.height))
	pass := func(start, step, n int) {
		for i := range n {
			line[i] = c.pix[start+i*step]
		}
		for i := range n {
			var sum rgb
			for k, w := range kernel {
				p := &line[min(max(i+k-reach, 0), n-1)]
				sum[0] += w * p[0]
				sum[1] += w * p[1]
				sum[2] += w * p[2]
			}
			c.pix[start+i*step] = sum
		}
	}
	for y := range c.height {
		pass(y*c.width, 1, c.width)
	}
	for x := range c.width {
		pass(x, c.width, c.height)
	}
}

// srgbTable holds the sRGB curve (IEC 61966-2-1) at steps of 1/4096.
var srgbTable = func() (t [4097]uint8) {
	for i := range t {
		v := float64(i) / float64(len(t)-1)
		if v <= 0.0031308 {
			v *= 12.92
		} else {
			v = 1.055*math.Pow(v, 1/2.4) - 0.055
		}
		t[i] = uint8(255*v + 0.5)
	}
	return t
}()

// encodeSRGB turns linear light into an sRGB byte, cut at black and white.
func encodeSRGB(v float64) uint8 {
	return srgbTable[int(clamp(v, 0, 1)*float64(len(srgbTable)-1)+0.5)]
}

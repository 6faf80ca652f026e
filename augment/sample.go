package augment

import "math"

// Sample draws the parameters of one view (0 or 1) of an image of the given
// size in pixels, by the rules of torchvision's RandomResizedCrop,
// RandomHorizontalFlip, ColorJitter, RandomGrayscale and RandAugment. The recipe
// must be valid. Jitter factors and blur sigmas are drawn in single precision, as
// torch does.
func (r *Recipe) Sample(rng *Rand, view, imageWidth, imageHeight int) ViewParams {
	v := &r.Views[view]
	p := ViewParams{Crop: r.sampleCrop(rng, imageWidth, imageHeight)}
	p.Flip = rng.Bool(v.Flip)
	if rng.Bool(v.Jitter) {
		v.sampleJitter(rng, &p)
	}
	for range v.RandOps {
		if j, ok := sampleRandAugment(rng, v.RandMagnitude); ok {
			p.Jitter[p.Jitters] = j
			p.Jitters++
		}
	}
	p.Grayscale = rng.Bool(v.Grayscale)
	if p.Grayscale && v.GrayscaleFirst {
		p.grayscaleFirst()
	}
	if rng.Bool(v.Blur) {
		p.BlurSigma = v.BlurSigma.sample(rng)
	}
	p.Solarize = rng.Bool(v.Solarize)
	return p
}

// cropAttempts is how often a crop is drawn before the fallback.
const cropAttempts = 10

// sampleCrop draws areas evenly and ratios evenly in their logarithm until a
// crop fits.
func (r *Recipe) sampleCrop(rng *Rand, width, height int) Rect {
	area := float64(width) * float64(height)
	for range cropAttempts {
		target := area * rng.Uniform(r.CropScale.Min, r.CropScale.Max)
		ratio := math.Exp(rng.Uniform(math.Log(r.CropRatio.Min), math.Log(r.CropRatio.Max)))
		w := math.RoundToEven(math.Sqrt(target * ratio))
		h := math.RoundToEven(math.Sqrt(target / ratio))
		if 0 < w && w <= float64(width) && 0 < h && h <= float64(height) {
			c := Rect{Width: int(w), Height: int(h)}
			c.Top = rng.IntN(height - c.Height + 1)
			c.Left = rng.IntN(width - c.Width + 1)
			return c
		}
	}
	return r.centreCrop(width, height)
}

// centreCrop is the largest part around the centre whose ratio is in range.
func (r *Recipe) centreCrop(width, height int) Rect {
	c := Rect{Width: width, Height: height}
	switch ratio := float64(width) / float64(height); {
	case ratio < r.CropRatio.Min:
		c.Height = wholePixels(float64(width) / r.CropRatio.Min)
	case ratio > r.CropRatio.Max:
		c.Width = wholePixels(float64(height) * r.CropRatio.Max)
	}
	c.Top = (height - c.Height) / 2
	c.Left = (width - c.Width) / 2
	return c
}

// wholePixels keeps at least one pixel, where torchvision's rounding would
// leave none of a narrow image under an extreme ratio.
func wholePixels(side float64) int {
	return max(int(math.RoundToEven(side)), 1)
}

// sampleJitter draws the order and all factors, as ColorJitter does.
func (v *ViewRecipe) sampleJitter(rng *Rand, p *ViewParams) {
	order := rng.Perm4()
	strengths := v.strengths()
	var factors [jitterCount]float64
	for op, strength := range strengths {
		factors[op] = operations[op].jitter.factors(strength).sample(rng)
	}
	for _, op := range order {
		if strengths[op] > 0 {
			p.Jitter[p.Jitters] = Jitter{Op: Op(op), Factor: factors[op]}
			p.Jitters++
		}
	}
}

// grayscaleFirst moves the grayscale before the colour jitter. Saturation and hue
// have nothing to change behind it, so there is room for a saturation of 0.
func (p *ViewParams) grayscaleFirst() {
	moved := [4]Jitter{{Op: OpSaturation, Factor: 0}}
	n := 1
	for _, j := range p.Jitter[:p.Jitters] {
		if j.Op != OpSaturation && j.Op != OpHue {
			moved[n] = j
			n++
		}
	}
	p.Grayscale, p.Jitter, p.Jitters = false, moved, n
}

// sampleRandAugment draws an operation and, where it has one, the sign of its
// magnitude, as torchvision's RandAugment does. All operations are equally
// likely, and so is one more, which does nothing: ok is false then.
func sampleRandAugment(rng *Rand, magnitude int) (j Jitter, ok bool) {
	n := rng.IntN(len(randAugment) + 1)
	negative := rng.Bool(0.5)
	if n == len(randAugment) {
		return j, false
	}
	op := randAugment[n]
	return Jitter{Op: op, Factor: operations[op].magnitude(magnitude, negative)}, true
}

// sample draws a value in single precision, which must not round it out of the
// interval.
func (r Range) sample(rng *Rand) float64 {
	return min(max(float64(float32(rng.Uniform(r.Min, r.Max))), r.Min), r.Max)
}

package augment

import (
	"fmt"
	"math"
)

// Op is an operation of the colour jitter or of RandAugment.
type Op uint8

// The operations of the colour jitter, in torchvision's numbering, and those
// that RandAugment has besides.
const (
	OpBrightness Op = iota
	OpContrast
	OpSaturation
	OpHue
	OpSharpness
	OpPosterize
	OpSolarize
	OpAutoContrast
	OpEqualize
	opCount
)

var opNames = [opCount]string{"brightness", "contrast", "saturation", "hue", "sharpness", "posterize", "solarize", "autocontrast", "equalize"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// MarshalText returns the operation's name.
func (o Op) MarshalText() ([]byte, error) {
	if int(o) >= len(opNames) {
		return nil, fmt.Errorf("augment: no jitter operation has the number %d", uint8(o))
	}
	return []byte(opNames[o]), nil
}

// UnmarshalText sets the operation by its name.
func (o *Op) UnmarshalText(text []byte) error {
	for i, name := range opNames {
		if string(text) == name {
			*o = Op(i)
			return nil
		}
	}
	return fmt.Errorf("augment: no jitter operation is called %q; there are %q", text, opNames)
}

// Jitter is one operation with its factor: at least 0 and neutral at 1 for
// brightness, contrast, saturation and sharpness; for the hue -0.5 to 0.5 turns of
// the colour circle; for posterize the bits that are kept, a whole number from 0
// to 8; for solarize the threshold, 0 to 256; for the others 0, as it says nothing.
type Jitter struct {
	Op     Op      `json:"op"`
	Factor float64 `json:"factor"`
}

// MaxBlurSigma is the largest standard deviation of a blur, in pixels.
const MaxBlurSigma = 1000

// SolarizeThreshold is the value from which on a view's solarize inverts.
const SolarizeThreshold = 128

// ViewParams is everything that was drawn for one view. Operations apply in
// the order of the fields.
type ViewParams struct {
	Crop      Rect      `json:"crop"`
	Flip      bool      `json:"flip"`
	Jitter    [4]Jitter `json:"jitter"`
	Jitters   int       `json:"jitters"` // the first Jitters entries of Jitter apply, in order
	Grayscale bool      `json:"grayscale"`
	BlurSigma float64   `json:"blur_sigma"` // standard deviation in pixels, 0 = no blur
	Solarize  bool      `json:"solarize"`
}

// Validate reports whether the parameters can be applied to an image of the
// given size in pixels.
func (p *ViewParams) Validate(imageWidth, imageHeight int) error {
	if !p.Crop.inside(imageWidth, imageHeight) {
		return fmt.Errorf("augment: crop of %d x %d pixels at left %d, top %d is not inside the image of %d x %d",
			p.Crop.Width, p.Crop.Height, p.Crop.Left, p.Crop.Top, imageWidth, imageHeight)
	}
	if p.Jitters < 0 || p.Jitters > len(p.Jitter) {
		return fmt.Errorf("augment: %d jitter operations, must be 0 to %d", p.Jitters, len(p.Jitter))
	}
	for _, j := range p.Jitter[:p.Jitters] {
		if err := j.validate(); err != nil {
			return err
		}
	}
	if !(0 <= p.BlurSigma && p.BlurSigma <= MaxBlurSigma) {
		return fmt.Errorf("augment: blur sigma %v, must be from 0 to %v", p.BlurSigma, float64(MaxBlurSigma))
	}
	return nil
}

func (j Jitter) validate() error {
	lo, hi := 0.0, float64(math.MaxFloat32)
	switch {
	case j.Op >= opCount:
		return fmt.Errorf("augment: no jitter operation has the number %d", uint8(j.Op))
	case j.Op == OpHue:
		lo, hi = -0.5, 0.5
	case j.Op == OpPosterize:
		hi = 8
	case j.Op == OpSolarize:
		hi = 256
	case j.Op == OpAutoContrast, j.Op == OpEqualize:
		hi = 0
	}
	if !(lo <= j.Factor && j.Factor <= hi) {
		return fmt.Errorf("augment: %v factor %v, must be from %v to %v", j.Op, j.Factor, lo, hi)
	}
	if j.Op == OpPosterize && j.Factor != math.Trunc(j.Factor) {
		return fmt.Errorf("augment: posterize to %v bits, must be whole", j.Factor)
	}
	return nil
}

// inside compares without sums, which could overflow.
func (r Rect) inside(width, height int) bool {
	return r.Left >= 0 && r.Top >= 0 && r.Width >= 1 && r.Height >= 1 &&
		r.Left < width && r.Top < height &&
		r.Width <= width-r.Left && r.Height <= height-r.Top
}

// Apply makes the view of src at the size of dst, and overwrites all of dst. It
// panics if the parameters do not fit the image (Validate), or if a buffer has
// not the length that its size asks for. dst and src must not overlap.
func (p *ViewParams) Apply(dst Planes, src Image, s *Scratch) {
	if err := p.Validate(src.Width, src.Height); err != nil {
		panic(err.Error())
	}
	resizedCrop(dst, src, p.Crop, p.Flip, &s.resize)
	for _, j := range p.Jitter[:p.Jitters] {
		dst.apply(j, s)
	}
	if p.Grayscale {
		dst.Grayscale()
	}
	if p.BlurSigma > 0 {
		dst.GaussianBlur(p.BlurSigma, s)
	}
	if p.Solarize {
		dst.Solarize(SolarizeThreshold)
	}
}

// apply is one operation of the colour jitter or of RandAugment.
func (p Planes) apply(j Jitter, s *Scratch) {
	switch j.Op {
	case OpBrightness:
		p.Brightness(j.Factor)
	case OpContrast:
		p.Contrast(j.Factor)
	case OpSaturation:
		p.Saturation(j.Factor)
	case OpHue:
		p.Hue(j.Factor)
	case OpSharpness:
		p.Sharpness(j.Factor, s)
	case OpPosterize:
		p.Posterize(int(j.Factor))
	case OpSolarize:
		p.solarizeFrom(j.Factor)
	case OpAutoContrast:
		p.AutoContrast()
	case OpEqualize:
		p.Equalize()
	}
}

package augment

import "fmt"

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
		return fmt.Errorf("augment: %d operations, must be 0 to %d", p.Jitters, len(p.Jitter))
	}
	for _, j := range p.Jitter[:p.Jitters] {
		if err := j.Validate(); err != nil {
			return err
		}
	}
	if !(0 <= p.BlurSigma && p.BlurSigma <= MaxBlurSigma) {
		return fmt.Errorf("augment: blur sigma %v, must be from 0 to %v", p.BlurSigma, float64(MaxBlurSigma))
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
		operations[j.Op].apply(dst, j.Factor, s)
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

package augment

import (
	"fmt"
	"math"
)

// Range is an interval that a value is drawn from, evenly.
type Range struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// Recipe tells how the two views of a pair are drawn.
type Recipe struct {
	Name      string        `json:"name"`
	CropScale Range         `json:"crop_scale"` // area of the crop as a fraction of the image's
	CropRatio Range         `json:"crop_ratio"` // width / height of the crop, drawn evenly in its logarithm
	Views     [2]ViewRecipe `json:"views"`
}

// ViewRecipe tells what happens to a view after the crop. The zero value does
// nothing. A colour jitter of strength x draws the factor from 1-x to 1+x, not
// below 0, and that of the hue from -x to x; strength 0 leaves an operation
// out; the order of the operations is drawn, too.
type ViewRecipe struct {
	Flip       float64 `json:"flip"`   // probability
	Jitter     float64 `json:"jitter"` // probability
	Brightness float64 `json:"brightness"`
	Contrast   float64 `json:"contrast"`
	Saturation float64 `json:"saturation"`
	Hue        float64 `json:"hue"`
	Grayscale  float64 `json:"grayscale"`  // probability
	Blur       float64 `json:"blur"`       // probability
	BlurSigma  Range   `json:"blur_sigma"` // standard deviation in pixels
	Solarize   float64 `json:"solarize"`   // probability
}

// recipes are in the order in which LookupRecipe names them.
var recipes = []Recipe{
	// Grill et al., "Bootstrap your own latent" (2020), appendix B, with the
	// colour jitter and the crops that PixPro's published runs use.
	{
		Name:      "byol",
		CropScale: Range{0.08, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views: [2]ViewRecipe{
			{
				Flip:   0.5,
				Jitter: 0.8, Brightness: 0.4, Contrast: 0.4, Saturation: 0.2, Hue: 0.1,
				Grayscale: 0.2,
				Blur:      1, BlurSigma: Range{0.1, 2},
			},
			{
				Flip:   0.5,
				Jitter: 0.8, Brightness: 0.4, Contrast: 0.4, Saturation: 0.2, Hue: 0.1,
				Grayscale: 0.2,
				Blur:      0.1, BlurSigma: Range{0.1, 2},
				Solarize: 0.2,
			},
		},
	},
	{
		Name:      "none",
		CropScale: Range{0.08, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views:     [2]ViewRecipe{{Flip: 0.5}, {Flip: 0.5}},
	},
}

// LookupRecipe returns the recipe of a name: "byol", the asymmetric pair of
// BYOL that is the default of PixPro, or "none", crops and flips only.
func LookupRecipe(name string) (Recipe, error) {
	names := make([]string, len(recipes))
	for i, r := range recipes {
		if r.Name == name {
			return r, nil
		}
		names[i] = r.Name
	}
	return Recipe{}, fmt.Errorf("augment: no recipe is called %q; there are %q", name, names)
}

// Validate reports the first field that has no sensible value.
func (r *Recipe) Validate() error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("augment: recipe %q: %w", r.Name, err)
	}
	return nil
}

func (r *Recipe) validate() error {
	if err := r.CropScale.validate("crop_scale", math.SmallestNonzeroFloat64, 1); err != nil {
		return err
	}
	if err := r.CropRatio.validate("crop_ratio", 1.0/1000, 1000); err != nil {
		return err
	}
	for i := range r.Views {
		if err := r.Views[i].validate(); err != nil {
			return fmt.Errorf("view %d: %w", i+1, err)
		}
	}
	return nil
}

func (v *ViewRecipe) validate() error {
	type field struct {
		name   string
		value  float64
		lo, hi float64
	}
	for _, f := range []field{
		{"flip", v.Flip, 0, 1},
		{"jitter", v.Jitter, 0, 1},
		{"brightness", v.Brightness, 0, math.MaxFloat32 / 2},
		{"contrast", v.Contrast, 0, math.MaxFloat32 / 2},
		{"saturation", v.Saturation, 0, math.MaxFloat32 / 2},
		{"hue", v.Hue, 0, 0.5},
		{"grayscale", v.Grayscale, 0, 1},
		{"blur", v.Blur, 0, 1},
		{"solarize", v.Solarize, 0, 1},
	} {
		if !(f.lo <= f.value && f.value <= f.hi) {
			return fmt.Errorf("%s is %v, must be from %v to %v", f.name, f.value, f.lo, f.hi)
		}
	}
	return v.BlurSigma.validate("blur_sigma", 0, MaxBlurSigma)
}

func (r Range) validate(name string, lo, hi float64) error {
	if !(lo <= r.Min && r.Min <= r.Max && r.Max <= hi) {
		return fmt.Errorf("%s is %v to %v, must be an interval between %v and %v", name, r.Min, r.Max, lo, hi)
	}
	return nil
}

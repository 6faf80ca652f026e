package augment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
//
// RandOps and RandMagnitude ask for RandAugment (Cubuk, Zoph, Shlens and Le, 2020)
// in place of the colour jitter, as torchvision has it: so many operations at
// one magnitude. Of its operations only the photometric ones and that which does
// nothing are drawn. Shears, translations and rotations would move pixels away from
// where ViewParams.Coord says that they are, and pixels are what is learnt from.
type ViewRecipe struct {
	Flip       float64 `json:"flip"`   // probability
	Jitter     float64 `json:"jitter"` // probability
	Brightness float64 `json:"brightness"`
	Contrast   float64 `json:"contrast"`
	Saturation float64 `json:"saturation"`
	Hue        float64 `json:"hue"`
	Grayscale  float64 `json:"grayscale"` // probability
	// GrayscaleFirst puts the grayscale before the colour jitter. In parameters
	// it is a saturation of 0 then, which has the same result.
	GrayscaleFirst bool `json:"grayscale_first,omitempty"`

	RandOps       int `json:"rand_ops,omitempty"`       // 0 to 4
	RandMagnitude int `json:"rand_magnitude,omitempty"` // 0 to 30

	Blur      float64 `json:"blur"`       // probability
	BlurSigma Range   `json:"blur_sigma"` // standard deviation in pixels
	Solarize  float64 `json:"solarize"`   // probability
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
	// Chen et al., "A simple framework for contrastive learning of visual
	// representations" (2020), appendix A, colour distortion of strength 1.
	{
		Name:      "simclr",
		CropScale: Range{0.08, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views: alike(ViewRecipe{
			Flip:   0.5,
			Jitter: 0.8, Brightness: 0.8, Contrast: 0.8, Saturation: 0.8, Hue: 0.2,
			Grayscale: 0.2,
			Blur:      0.5, BlurSigma: Range{0.1, 2},
		}),
	},
	// Chen, Fan, Girshick and He, "Improved baselines with momentum contrastive
	// learning" (2020), with the parameters of its published code.
	{
		Name:      "mocov2",
		CropScale: Range{0.2, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views: alike(ViewRecipe{
			Flip:   0.5,
			Jitter: 0.8, Brightness: 0.4, Contrast: 0.4, Saturation: 0.4, Hue: 0.1,
			Grayscale: 0.2,
			Blur:      0.5, BlurSigma: Range{0.1, 2},
		}),
	},
	// Wu, Xiong, Yu and Lin, "Unsupervised feature learning via non-parametric
	// instance discrimination" (2018), with the parameters of its published code.
	{
		Name:      "instdisc",
		CropScale: Range{0.2, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views: alike(ViewRecipe{
			Flip:      0.5,
			Grayscale: 0.2, GrayscaleFirst: true,
			Jitter: 1, Brightness: 0.4, Contrast: 0.4, Saturation: 0.4, Hue: 0.4,
		}),
	},
	// Cubuk et al., "RandAugment: practical automated data augmentation with a
	// reduced search space" (2020): two operations of magnitude 9.
	{
		Name:      "randaug",
		CropScale: Range{0.08, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views:     alike(ViewRecipe{Flip: 0.5, RandOps: 2, RandMagnitude: 9}),
	},
	{
		Name:      "none",
		CropScale: Range{0.08, 1},
		CropRatio: Range{3.0 / 4, 4.0 / 3},
		Views:     [2]ViewRecipe{{Flip: 0.5}, {Flip: 0.5}},
	},
}

// alike is a pair of views that are drawn alike.
func alike(v ViewRecipe) [2]ViewRecipe { return [2]ViewRecipe{v, v} }

// LookupRecipe returns the recipe of a name: "byol", the asymmetric pair of
// BYOL that is the default of PixPro, "simclr", "mocov2", "instdisc", "randaug",
// or "none", crops and flips only.
func LookupRecipe(name string) (Recipe, error) {
	for _, r := range recipes {
		if r.Name == name {
			return r, nil
		}
	}
	return Recipe{}, fmt.Errorf("augment: no recipe is called %q; there are %q", name, RecipeNames())
}

// RecipeNames lists the names that LookupRecipe knows.
func RecipeNames() []string {
	names := make([]string, len(recipes))
	for i, r := range recipes {
		names[i] = r.Name
	}
	return names
}

// ParseRecipe reads a recipe from JSON as json.Marshal writes it: all fields that
// there are must be known, those that are missing are zero. The recipe is valid.
func ParseRecipe(data []byte) (Recipe, error) {
	var r Recipe
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Recipe{}, fmt.Errorf("augment: recipe: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Recipe{}, errors.New("augment: recipe: something follows it")
	}
	return r, r.Validate()
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
	fields := []field{{"flip", v.Flip, 0, 1}, {"jitter", v.Jitter, 0, 1}}
	for op, strength := range v.strengths() {
		fields = append(fields, field{operations[op].name, strength, 0, operations[op].jitter.maxStrength})
	}
	fields = append(fields, field{"grayscale", v.Grayscale, 0, 1}, field{"blur", v.Blur, 0, 1}, field{"solarize", v.Solarize, 0, 1})
	for _, f := range fields {
		if !(f.lo <= f.value && f.value <= f.hi) {
			return fmt.Errorf("%s is %v, must be from %v to %v", f.name, f.value, f.lo, f.hi)
		}
	}
	if v.RandOps < 0 || v.RandOps > len(ViewParams{}.Jitter) {
		return fmt.Errorf("rand_ops is %d, must be from 0 to %d", v.RandOps, len(ViewParams{}.Jitter))
	}
	if v.RandMagnitude < 0 || v.RandMagnitude > maxRandMagnitude {
		return fmt.Errorf("rand_magnitude is %d, must be from 0 to %d", v.RandMagnitude, maxRandMagnitude)
	}
	if v.RandOps > 0 && (v.Jitter > 0 || v.GrayscaleFirst) {
		return fmt.Errorf("rand_ops is %d, must be 0 where there is jitter or grayscale_first", v.RandOps)
	}
	return v.BlurSigma.validate("blur_sigma", 0, MaxBlurSigma)
}

// strengths are those of the colour jitter's operations, by Op.
func (v *ViewRecipe) strengths() [jitterCount]float64 {
	return [jitterCount]float64{OpBrightness: v.Brightness, OpContrast: v.Contrast, OpSaturation: v.Saturation, OpHue: v.Hue}
}

func (r Range) validate(name string, lo, hi float64) error {
	if !(lo <= r.Min && r.Min <= r.Max && r.Max <= hi) {
		return fmt.Errorf("%s is %v to %v, must be an interval between %v and %v", name, r.Min, r.Max, lo, hi)
	}
	return nil
}

package augment

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestLookupRecipe(t *testing.T) {
	for _, name := range []string{"byol", "none"} {
		r := mustRecipe(t, name)
		if r.Name != name {
			t.Errorf("recipe %q is called %q", name, r.Name)
		}
		if err := r.Validate(); err != nil {
			t.Errorf("recipe %q: %v", name, err)
		}
	}
	if _, err := LookupRecipe("bylo"); err == nil || !strings.Contains(err.Error(), `"bylo"`) || !strings.Contains(err.Error(), "byol") {
		t.Errorf("error %v does not say what was asked for and what there is", err)
	}
}

// TestLookupRecipeGivesACopy: who changes a recipe changes only their own.
func TestLookupRecipeGivesACopy(t *testing.T) {
	r := mustRecipe(t, "byol")
	r.CropScale.Min, r.Views[0].Flip = 0.5, 1
	if again := mustRecipe(t, "byol"); again.CropScale.Min != 0.08 || again.Views[0].Flip != 0.5 {
		t.Errorf("the recipe has changed: %+v", again)
	}
}

func TestRecipeJSON(t *testing.T) {
	want := mustRecipe(t, "byol")
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Recipe
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s read back is %+v, want %+v", data, got, want)
	}
}

func TestRecipeValidate(t *testing.T) {
	nan, infinite := math.NaN(), math.Inf(1)
	for _, test := range []struct {
		name   string // with the field's name, which the error has to tell
		change func(*Recipe)
	}{
		{"crop_scale zero", func(r *Recipe) { r.CropScale.Min = 0 }},
		{"crop_scale above one", func(r *Recipe) { r.CropScale.Max = 1.1 }},
		{"crop_scale reversed", func(r *Recipe) { r.CropScale = Range{Min: 0.5, Max: 0.4} }},
		{"crop_scale not a number", func(r *Recipe) { r.CropScale.Min = nan }},
		{"crop_ratio zero", func(r *Recipe) { r.CropRatio.Min = 0 }},
		{"crop_ratio infinite", func(r *Recipe) { r.CropRatio.Max = infinite }},
		{"flip negative", func(r *Recipe) { r.Views[0].Flip = -0.1 }},
		{"jitter above one", func(r *Recipe) { r.Views[1].Jitter = 1.1 }},
		{"brightness negative", func(r *Recipe) { r.Views[1].Brightness = -1 }},
		{"contrast infinite", func(r *Recipe) { r.Views[1].Contrast = infinite }},
		{"saturation not a number", func(r *Recipe) { r.Views[1].Saturation = nan }},
		{"hue above half", func(r *Recipe) { r.Views[1].Hue = 0.6 }},
		{"grayscale above one", func(r *Recipe) { r.Views[1].Grayscale = 2 }},
		{"blur above one", func(r *Recipe) { r.Views[1].Blur = 2 }},
		{"blur_sigma negative", func(r *Recipe) { r.Views[1].BlurSigma.Min = -1 }},
		{"blur_sigma too large", func(r *Recipe) { r.Views[1].BlurSigma.Max = 1e9 }},
		{"solarize not a number", func(r *Recipe) { r.Views[1].Solarize = nan }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mustRecipe(t, "byol")
			test.change(&r)
			field, _, _ := strings.Cut(test.name, " ")
			err := r.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), field) {
				t.Errorf("error %q does not name %s", err, field)
			}
			if strings.Count(err.Error(), "augment:") != 1 {
				t.Errorf("error %q does not name the package once", err)
			}
		})
	}
	if err := new(Recipe).Validate(); err == nil {
		t.Error("an empty recipe is accepted")
	}
}

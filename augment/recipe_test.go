package augment

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestLookupRecipe(t *testing.T) {
	for _, name := range []string{"byol", "simclr", "mocov2", "instdisc", "randaug", "none"} {
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
	for _, want := range recipes {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRecipe(data)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s read back is %+v, want %+v", data, got, want)
		}
	}
}

func TestParseRecipeRefuses(t *testing.T) {
	good, err := json.Marshal(mustRecipe(t, "byol"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"no recipe":        "[]",
		"an empty one":     "{}",
		"an unknown field": strings.Replace(string(good), `"flip"`, `"flop"`, 1),
		"an invalid value": strings.Replace(string(good), `"flip":0.5`, `"flip":1.5`, 1),
		"two of them":      string(good) + string(good),
		"one that is cut":  string(good[:len(good)-1]),
	} {
		if _, err := ParseRecipe([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "augment: ") {
			t.Errorf("%s: error %v", name, err)
		}
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
		{"rand_ops negative", func(r *Recipe) { r.Views[0].RandOps = -1 }},
		{"rand_ops too many", func(r *Recipe) { r.Views[0].Jitter, r.Views[0].RandOps = 0, 5 }},
		{"rand_ops and jitter", func(r *Recipe) { r.Views[0].RandOps = 1 }},
		{"rand_magnitude too large", func(r *Recipe) { r.Views[0].RandMagnitude = 31 }},
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

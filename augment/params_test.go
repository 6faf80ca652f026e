package augment

import (
	"encoding/json"
	"math"
	"testing"
)

func TestViewParamsJSON(t *testing.T) {
	want := ViewParams{
		Crop: Rect{Top: 1, Left: 2, Height: 3, Width: 4}, Flip: true,
		Jitter:  [4]Jitter{{OpHue, -0.1}, {OpBrightness, 1.2}},
		Jitters: 2, Grayscale: true, BlurSigma: 0.1 + 0.2, Solarize: true,
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got ViewParams
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s read back is %+v, want %+v", data, got, want)
	}
}

func TestViewParamsValidate(t *testing.T) {
	const width, height = 30, 20
	good := ViewParams{
		Crop:    Rect{Top: 5, Left: 10, Height: 15, Width: 20}, // reaches the lower right corner
		Jitter:  [4]Jitter{{OpHue, -0.5}, {OpBrightness, 0}, {OpContrast, 100}, {OpSaturation, 1}},
		Jitters: 4, BlurSigma: 2,
	}
	if err := good.Validate(width, height); err != nil {
		t.Fatalf("good parameters: %v", err)
	}
	for name, change := range map[string]func(*ViewParams){
		"no width":               func(p *ViewParams) { p.Crop.Width = 0 },
		"negative height":        func(p *ViewParams) { p.Crop.Height = -1 },
		"negative left":          func(p *ViewParams) { p.Crop.Left = -1 },
		"negative top":           func(p *ViewParams) { p.Crop.Top = -1 },
		"beyond the right edge":  func(p *ViewParams) { p.Crop.Left++ },
		"beyond the lower edge":  func(p *ViewParams) { p.Crop.Height++ },
		"sum overflows":          func(p *ViewParams) { p.Crop.Width = math.MaxInt },
		"left and width huge":    func(p *ViewParams) { p.Crop.Left, p.Crop.Width = math.MaxInt, math.MaxInt },
		"negative Jitters":       func(p *ViewParams) { p.Jitters = -1 },
		"too many Jitters":       func(p *ViewParams) { p.Jitters = 5 },
		"unknown operation":      func(p *ViewParams) { p.Jitter[3].Op = opCount },
		"hue beyond a half":      func(p *ViewParams) { p.Jitter[0].Factor = 0.51 },
		"hue not a number":       func(p *ViewParams) { p.Jitter[0].Factor = math.NaN() },
		"negative brightness":    func(p *ViewParams) { p.Jitter[1].Factor = -0.1 },
		"infinite contrast":      func(p *ViewParams) { p.Jitter[2].Factor = math.Inf(1) },
		"contrast beyond single": func(p *ViewParams) { p.Jitter[2].Factor = 1e300 },
		"half a bit":             func(p *ViewParams) { p.Jitter[3] = Jitter{OpPosterize, 2.5} },
		"nine bits":              func(p *ViewParams) { p.Jitter[3] = Jitter{OpPosterize, 9} },
		"solarize above all":     func(p *ViewParams) { p.Jitter[3] = Jitter{OpSolarize, 257} },
		"factor for nothing":     func(p *ViewParams) { p.Jitter[3] = Jitter{OpEqualize, 1} },
		"negative sharpness":     func(p *ViewParams) { p.Jitter[3] = Jitter{OpSharpness, -1} },
		"negative sigma":         func(p *ViewParams) { p.BlurSigma = -1 },
		"sigma not a number":     func(p *ViewParams) { p.BlurSigma = math.NaN() },
		"sigma too large":        func(p *ViewParams) { p.BlurSigma = math.Inf(1) },
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			change(&p)
			if err := p.Validate(width, height); err == nil {
				t.Errorf("accepted: %+v", p)
			}
		})
	}
	t.Run("unused jitter", func(t *testing.T) {
		p := good
		p.Jitter[3], p.Jitters = Jitter{Op: 77, Factor: math.NaN()}, 3
		if err := p.Validate(width, height); err != nil {
			t.Errorf("an entry that does not apply is refused: %v", err)
		}
	})
}

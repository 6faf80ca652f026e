package figure

import (
	"image/color"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
)

func featureRow() FeatureRow {
	return FeatureRow{
		Source: augment.Image{Width: 2, Height: 2, Pix: make([]uint8, 12)}, Title: "picture", At: &[2]int{0, 1},
		Maps: []FeatureMap{{Rows: 2, Cols: 2,
			Colours:    []float64{1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1},
			Similarity: []float64{0, 0.5, 1, 1},
		}},
	}
}

func TestFeaturesDrawCellsWhereTheyAre(t *testing.T) {
	m, err := Features([]FeatureRow{featureRow()}, []string{"encoder"})
	if err != nil {
		t.Fatal(err)
	}
	const quarter = featureSide / 4
	x, y := margin+featureSide+featureGap, margin+2*lineHeight
	for _, c := range []struct {
		x, y int
		want color.RGBA
	}{
		{x + quarter, y + quarter, color.RGBA{255, 0, 0, 255}},
		{x + 3*quarter, y + quarter, color.RGBA{0, 255, 0, 255}},
		{x + quarter, y + 3*quarter, color.RGBA{0, 0, 255, 255}},
		{x + 3*quarter, y + 3*quarter, color.RGBA{255, 255, 255, 255}},
	} {
		if got := m.RGBAAt(c.x, c.y); got != c.want {
			t.Errorf("at %d, %d: %v, want %v", c.x, c.y, got, c.want)
		}
	}
	// Similar cells are brighter, and the mark lies in the lower left of the four.
	heat := x + featureSide + featureGap
	brightness := func(x, y int) int { c := m.RGBAAt(x, y); return int(c.R) + int(c.G) + int(c.B) }
	dark, middle, bright := brightness(heat+quarter, y+quarter), brightness(heat+3*quarter, y+quarter), brightness(heat+3*quarter, y+3*quarter)
	if dark >= middle || middle >= bright {
		t.Errorf("brightness of similarities 0, 0.5, 1 is %d, %d, %d", dark, middle, bright)
	}
	if got := m.RGBAAt(heat+quarter, y+3*quarter); got != alarm {
		t.Errorf("the mark is %v", got)
	}
}

func TestFeaturesRefuse(t *testing.T) {
	for name, change := range map[string]func(*FeatureRow){
		"pixels missing":         func(r *FeatureRow) { r.Source.Pix = nil },
		"a mark outside":         func(r *FeatureRow) { r.At = &[2]int{2, 0} },
		"too few maps":           func(r *FeatureRow) { r.Maps = nil },
		"a map without cells":    func(r *FeatureRow) { r.Maps[0].Rows = 0 },
		"too few similarities":   func(r *FeatureRow) { r.Maps[0].Similarity = nil },
		"colours do not fit":     func(r *FeatureRow) { r.Maps[0].Colours = r.Maps[0].Colours[:5] },
		"a map of negative size": func(r *FeatureRow) { r.Maps[0].Rows, r.Maps[0].Cols = -2, -2 },
	} {
		r := featureRow()
		change(&r)
		if _, err := Features([]FeatureRow{r}, []string{"encoder"}); err == nil {
			t.Errorf("%s: drawn", name)
		}
	}
	if _, err := Features(nil, nil); err == nil {
		t.Error("nothing is drawn")
	}
}

package figure

import (
	"bytes"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
)

// slopes is an image whose red rises from left to right and whose green rises
// from top to bottom, so that a colour tells its place.
func slopes(width, height int) augment.Image {
	m := augment.Image{Width: width, Height: height}
	for y := range height {
		for x := range width {
			m.Pix = append(m.Pix, uint8(math.Round(255*float64(x)/float64(width-1))), uint8(math.Round(255*float64(y)/float64(height-1))), 0)
		}
	}
	return m
}

// makePair makes both views with crops and flips alone.
func makePair(src augment.Image, size int, params [2]augment.ViewParams) Pair {
	p := Pair{Source: src, Params: params, Title: "class/picture.jpg"}
	var scratch augment.Scratch
	for v := range params {
		p.Views[v] = augment.Planes{Width: size, Height: size, Pix: make([]uint8, 3*size*size)}
		params[v].Apply(p.Views[v], src, &scratch)
		p.Coords[v] = params[v].Coord(src.Width, src.Height)
	}
	return p
}

func crops(a, b augment.Rect, flipA, flipB bool) [2]augment.ViewParams {
	return [2]augment.ViewParams{{Crop: a, Flip: flipA}, {Crop: b, Flip: flipB}}
}

func drawPairs(t *testing.T, opts PairsOptions, pairs ...Pair) *image.RGBA {
	t.Helper()
	img, err := Pairs(pairs, opts)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Every mark in a view and in the source image lies where the crop's geometry,
// worked out here without coordinates, puts it, and joined cells show the same
// place of the image: their colours agree.
func TestMarksMeet(t *testing.T) {
	src := slopes(200, 150)
	opts := PairsOptions{Rows: 6, Cols: 6, Threshold: 0.7}
	text, err := newFaces(textSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, flips := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
		a := augment.Rect{Top: 10, Left: 20, Width: 120, Height: 96}
		b := augment.Rect{Top: 40, Left: 50, Width: 132, Height: 90}
		pair := makePair(src, 96, crops(a, b, flips[0], flips[1]))
		img := drawPairs(t, opts, pair)
		row := layOut(&pair, opts, text, margin+lineHeight*3/2)
		if len(row.joined) < 4 {
			t.Fatalf("%d joined cells", len(row.joined))
		}
		for i, j := range row.joined {
			cells := [2][2]int{{j.RowA, j.ColA}, {j.RowB, j.ColB}}
			var shown [2][2]float64 // red and green in the cells' middles
			for v, cell := range cells {
				at := row.views[v].cell(cell[0], cell[1], 6, 6)
				if got := img.At(int(at.x), int(at.y)); got != joinColours[i] {
					t.Errorf("flips %v: pair %d has %v in view %d", flips, i, got, v+1)
				}
				x, y := 16*cell[1]+8, 16*cell[0]+8 // of the 96 x 96 view
				shown[v] = [2]float64{float64(pair.Views[v].Pix[y*96+x]), float64(pair.Views[v].Pix[96*96+y*96+x])}

				crop := pair.Params[v].Crop
				fx := (float64(cell[1]) + 0.5) / 6
				if flips[v] {
					fx = 1 - fx
				}
				want := point{
					row.source.x + (float64(crop.Left)+fx*float64(crop.Width))/200*row.source.w,
					row.source.y + (float64(crop.Top)+(float64(cell[0])+0.5)/6*float64(crop.Height))/150*row.source.h,
				}
				// Coordinates span pixel centres, crops span pixels: half a
				// source pixel, 1.3 on the page.
				fracX, fracY := augment.Cell(pair.Coords[v], cell[0], cell[1], 6, 6)
				got := row.source.source(fracX, fracY, 200, 150)
				if math.Hypot(got.x-want.x, got.y-want.y) > 1.5 {
					t.Errorf("flips %v: pair %d, view %d: marked at %v of the source, the crop says %v", flips, i, v+1, got, want)
				}
				if v == 0 { // its disc lies on top
					if got := img.At(int(got.x), int(got.y)); got != joinColours[i] {
						t.Errorf("flips %v: pair %d has %v in the source image", flips, i, got)
					}
				}
			}
			// Cells within 0.7 diagonals are at most 0.7 x hypot(22/200,
			// 16/150) of the image apart: 27 levels; one more for rounding.
			if apart := math.Hypot(shown[0][0]-shown[1][0], shown[0][1]-shown[1][1]); apart > 28 {
				t.Errorf("flips %v: pair %d joins colours %v and %v", flips, i, shown[0], shown[1])
			}
		}
	}
}

// The crops' frames are where the crops are.
func TestCropFrames(t *testing.T) {
	src := augment.Image{Width: 250, Height: 210, Pix: make([]uint8, 3*250*210)} // drawn at twice its size
	pair := makePair(src, 32, crops(
		augment.Rect{Top: 10, Left: 20, Width: 50, Height: 40},
		augment.Rect{Top: 130, Left: 150, Width: 100, Height: 80}, false, false))
	img := drawPairs(t, PairsOptions{}, pair)
	top := margin + lineHeight + lineHeight/2
	for v, c := range [2][4]int{{20, 10, 70, 50}, {150, 130, 250, 210}} {
		midX, midY := margin+c[0]+c[2], top+c[1]+c[3]
		for _, at := range []image.Point{{margin + 2*c[0], midY}, {margin + 2*c[2], midY}, {midX, top + 2*c[1]}, {midX, top + 2*c[3]}} {
			if got := img.At(at.X, at.Y); got != viewColours[v] {
				t.Errorf("view %d: %v at %v", v+1, got, at)
			}
		}
	}
}

func TestPicture(t *testing.T) {
	src := augment.Image{Width: 64, Height: 48, Pix: make([]uint8, 3*64*48)} // black: any colour is drawn
	r := augment.Rect{Top: 4, Left: 4, Width: 40, Height: 40}
	far := crops(augment.Rect{Width: 8, Height: 8}, augment.Rect{Top: 40, Left: 56, Width: 8, Height: 8}, false, false)
	near, apart := makePair(src, 48, crops(r, r, true, false)), makePair(src, 48, far)

	one := drawPairs(t, PairsOptions{}, near)
	three := drawPairs(t, PairsOptions{}, near, apart, near)
	if one.Rect.Dx() != 1520 || three.Rect.Dx() != 1520 {
		t.Errorf("widths %d and %d", one.Rect.Dx(), three.Rect.Dx())
	}
	perPair := viewSide + lineHeight/2 + 2*lineHeight + pairGap
	if got, want := three.Rect.Dy()-one.Rect.Dy(), 2*perPair; got != want {
		t.Errorf("two pairs more make it %d higher, want %d", got, want)
	}
	if !bytes.Equal(three.Pix, drawPairs(t, PairsOptions{}, near, apart, near).Pix) {
		t.Error("two drawings of the same pairs differ")
	}
	// The pair without matching cells says so in red, the other does not.
	if n := count(one, alarm); n != 0 {
		t.Errorf("%d red pixels on a pair with matching cells", n)
	}
	if n := count(drawPairs(t, PairsOptions{}, apart), alarm); n < 100 {
		t.Errorf("%d red pixels on a pair without matching cells", n)
	}
	for _, c := range joinColours[:4] {
		if n := count(one, c.(color.RGBA)); n < 300 {
			t.Errorf("%d pixels of the joining colour %v", n, c)
		}
		if n := count(drawPairs(t, PairsOptions{}, apart), c.(color.RGBA)); n != 0 {
			t.Errorf("without matching cells, %d pixels of the joining colour %v", n, c)
		}
	}
}

func count(img *image.RGBA, c color.RGBA) (n int) {
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			if img.RGBAAt(x, y) == c {
				n++
			}
		}
	}
	return n
}

// Sizes that are out of the ordinary still draw.
func TestOddSizes(t *testing.T) {
	for _, size := range []image.Point{{1, 1}, {1, 900}, {900, 1}, {3, 2}} {
		src := augment.Image{Width: size.X, Height: size.Y, Pix: make([]uint8, 3*size.X*size.Y)}
		r := augment.Rect{Width: size.X, Height: size.Y}
		pair := makePair(src, 7, crops(r, r, false, true))
		pair.Title = strings.Repeat("a/long/path/", 40) + "\xff.jpg"
		drawPairs(t, PairsOptions{Rows: 1, Cols: 64}, pair)
	}
}

func TestDescribe(t *testing.T) {
	p := augment.ViewParams{
		Crop: augment.Rect{Top: 5, Left: 6, Height: 70, Width: 80}, Flip: true,
		Jitter: [4]augment.Jitter{
			{Op: augment.OpHue, Factor: -0.0414}, {Op: augment.OpContrast, Factor: 1.2},
			{Op: augment.OpBrightness, Factor: 0.8}, {Op: augment.OpSaturation, Factor: 1},
		},
		Jitters: 4, Grayscale: true, BlurSigma: 1.234, Solarize: true,
	}
	want := []string{"crop 80×70 at (6, 5)", "flipped", "hue -14.9°", "contrast ×1.20", "brightness ×0.80", "saturation ×1.00", "grayscale", "blur σ 1.23", "solarize from 128"}
	if diff := cmp.Diff(want, describe(p)); diff != "" {
		t.Error(diff)
	}
	p = augment.ViewParams{Crop: p.Crop, Jitter: p.Jitter}
	if diff := cmp.Diff(want[:1], describe(p)); diff != "" {
		t.Error(diff)
	}
	text, err := newFaces(textSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range "×σ°…" {
		if _, ok := text.regular.GlyphAdvance(r); !ok {
			t.Errorf("the font has no %q", r)
		}
	}
	lines := wrap(text.regular, want, 200)
	for _, line := range lines {
		if textWidth(text.regular, line) > 200 {
			t.Errorf("%q is too wide", line)
		}
	}
	if got := strings.Join(lines, " "); got != strings.Join(want, ", ") {
		t.Errorf("wrapped to %q", got)
	}
	if got := shorten(text.regular, "a/long/path/to/name.jpg", 100); !strings.HasPrefix(got, "…") || !strings.HasSuffix(got, "name.jpg") || textWidth(text.regular, got) > 100 {
		t.Errorf("shortened to %q", got)
	}
}

func TestPairsErrors(t *testing.T) {
	src := slopes(20, 10)
	r := augment.Rect{Width: 10, Height: 10}
	good := func() Pair { return makePair(src, 8, crops(r, r, false, false)) }
	for name, spoil := range map[string]func(*Pair, *PairsOptions){
		"source too short":   func(p *Pair, _ *PairsOptions) { p.Source.Pix = p.Source.Pix[1:] },
		"source claims more": func(p *Pair, _ *PairsOptions) { p.Source.Width = math.MaxInt / 2 },
		"empty source":       func(p *Pair, _ *PairsOptions) { p.Source = augment.Image{} },
		"view claims more":   func(p *Pair, _ *PairsOptions) { p.Views[1].Height = 9 },
		"negative view":      func(p *Pair, _ *PairsOptions) { p.Views[0].Height, p.Views[0].Width = -8, -8 },
		"crop outside":       func(p *Pair, _ *PairsOptions) { p.Params[0].Crop.Left = 11 },
		"crop overflows":     func(p *Pair, _ *PairsOptions) { p.Params[0].Crop.Width = math.MaxInt },
		"coordinate outside": func(p *Pair, _ *PairsOptions) { p.Coords[1][2] = 1.5 },
		"coordinate NaN":     func(p *Pair, _ *PairsOptions) { p.Coords[0][0] = float32(math.NaN()) },
		"no rows":            func(_ *Pair, o *PairsOptions) { o.Rows = -1 },
		"too many columns":   func(_ *Pair, o *PairsOptions) { o.Cols = 1000 },
		"threshold":          func(_ *Pair, o *PairsOptions) { o.Threshold = math.NaN() },
	} {
		pair, opts := good(), PairsOptions{}
		spoil(&pair, &opts)
		if _, err := Pairs([]Pair{good(), pair}, opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Pairs(nil, PairsOptions{}); err == nil {
		t.Error("no pairs: no error")
	}
}

// Edges are anti-aliased: a filled shape's ink is its area.
func TestPolygonArea(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20 {
		p := newPage(60, 60)
		centre, radius := point{20 + 20*rng.Float64(), 20 + 20*rng.Float64()}, 3+10*rng.Float64()
		p.disc(color.Black, centre, radius)
		if got, want := inked(p), math.Pi*radius*radius; math.Abs(got-want) > 0.02*want {
			t.Errorf("disc of radius %g has %g pixels of ink, want %g", radius, got, want)
		}
		p = newPage(60, 60)
		p.line(color.Black, point{5, 10}, point{5 + 30*rng.Float64(), 50}, 2.5)
		p.line(color.Black, point{9, 9}, point{9, 9}, 2.5) // nothing
		if got := inked(p); got < 2.5*40*0.98 || got > 2.5*50*1.02 {
			t.Errorf("a line 40 to 50 long and 2.5 wide has %g pixels of ink", got)
		}
	}
	p := newPage(20, 20)
	p.square(color.Black, point{0, 10}, 4) // half of it off the page
	p.square(color.Black, point{-50, 10}, 4)
	if got := inked(p); math.Abs(got-32) > 0.3 {
		t.Errorf("half a square of 8 x 8 has %g pixels of ink", got)
	}
}

func inked(p *page) (sum float64) {
	for i := 0; i < len(p.img.Pix); i += 4 {
		sum += 1 - float64(p.img.Pix[i])/255
	}
	return sum
}

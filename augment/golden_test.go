package augment

import (
	"encoding/json"
	"image/png"
	"math"
	"os"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/golden"
)

// goldenCase is one entry of cases.json: an operation of Pillow or torchvision
// with its parameters, the picture before and after.
type goldenCase struct {
	Op, Input, Output string
	Params            json.RawMessage
	Coord             *[4]float64
}

// goldenParams are the parameters of all operations; each uses its own.
type goldenParams struct {
	Top, Left, Height, Width int
	OutHeight                int `json:"out_height"`
	OutWidth                 int `json:"out_width"`
	Size                     int
	Factor, Sigma            float64
	Threshold                int
	Flip                     bool
	Jitter                   []goldenJitter
	Grayscale                bool
	BlurSigma                float64 `json:"blur_sigma"`
	Solarize                 bool
}

// goldenJitter is written as ["brightness", 1.2].
type goldenJitter Jitter

func (j *goldenJitter) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&j.Op, &j.Factor})
}

func (p *goldenParams) crop() Rect {
	return Rect{Top: p.Top, Left: p.Left, Height: p.Height, Width: p.Width}
}

func (p *goldenParams) view() ViewParams {
	v := ViewParams{
		Crop: p.crop(), Flip: p.Flip, Jitters: len(p.Jitter),
		Grayscale: p.Grayscale, BlurSigma: p.BlurSigma, Solarize: p.Solarize,
	}
	for i, j := range p.Jitter {
		v.Jitter[i] = Jitter(j)
	}
	return v
}

// TestGolden compares every operation, and whole views, with Pillow and
// torchvision, byte for byte.
func TestGolden(t *testing.T) {
	var cases []goldenCase
	golden.JSON(t, &cases, "augment", "cases.json")
	if len(cases) == 0 {
		t.Fatal("cases.json is empty")
	}
	pictures := map[string]Image{} // by name: many cases have the same input
	for _, c := range cases {
		for _, name := range []string{c.Input, c.Output} {
			if _, read := pictures[name]; !read {
				pictures[name] = readPNG(t, golden.Path(t, "augment", name))
			}
		}
	}
	eachLevel(t, func(t *testing.T) { testGolden(t, cases, pictures) })
}

func testGolden(t *testing.T, cases []goldenCase, pictures map[string]Image) {
	var scratch Scratch // one for all: what a case leaves behind must not matter to the next
	for _, c := range cases {
		t.Run(c.Output, func(t *testing.T) {
			var p goldenParams
			if err := json.Unmarshal(c.Params, &p); err != nil {
				t.Fatal(err)
			}
			src, want := pictures[c.Input], planesOf(pictures[c.Output])
			got := planesOf(src)
			switch c.Op {
			case "resized_crop":
				got = NewPlanes(p.OutWidth, p.OutHeight)
				ResizedCrop(got, src, p.crop(), &scratch)
			case "hflip":
				got.HFlip()
			case "grayscale":
				got.Grayscale()
			case "solarize":
				got.Solarize(p.Threshold)
			case "brightness":
				got.Brightness(p.Factor)
			case "contrast":
				got.Contrast(p.Factor)
			case "saturation":
				got.Saturation(p.Factor)
			case "hue":
				got.Hue(p.Factor)
			case "gaussian_blur":
				got.GaussianBlur(p.Sigma, &scratch)
			case "view":
				v := p.view()
				if err := v.Validate(src.Width, src.Height); err != nil {
					t.Fatal(err)
				}
				got = NewPlanes(p.Size, p.Size)
				v.Apply(got, src, &scratch)
				checkCoord(t, v.Coord(src.Width, src.Height), c.Coord)
			default:
				t.Fatalf("no such operation: %q", c.Op)
			}
			checkPlanes(t, got, want)
		})
	}
}

func checkCoord(t *testing.T, got Coord, want *[4]float64) {
	t.Helper()
	if want == nil {
		t.Fatal("the case has no coord")
	}
	for i, w := range want {
		if math.Abs(float64(got[i])-w) > 1e-6 {
			t.Errorf("coord is %v, want %v", got, *want)
			return
		}
	}
}

// checkPlanes reports the first difference, if any, and how many there are.
func checkPlanes(t *testing.T, got, want Planes) {
	t.Helper()
	if got.Width != want.Width || got.Height != want.Height {
		t.Fatalf("size is %d x %d, want %d x %d", got.Width, got.Height, want.Width, want.Height)
	}
	first, differ := -1, 0
	for i, v := range got.Pix {
		if v != want.Pix[i] {
			if differ++; first < 0 {
				first = i
			}
		}
	}
	if differ > 0 {
		plane, n := got.Width*got.Height, first%(got.Width*got.Height)
		t.Errorf("%d of %d bytes differ; the first in plane %d at row %d, column %d: %d, want %d",
			differ, len(got.Pix), first/plane, n/got.Width, n%got.Width, got.Pix[first], want.Pix[first])
	}
}

func readPNG(tb testing.TB, path string) Image {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	bounds := picture.Bounds()
	m := Image{Width: bounds.Dx(), Height: bounds.Dy()}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			m.Pix = append(m.Pix, uint8(r>>8), uint8(g>>8), uint8(b>>8))
		}
	}
	return m
}

// planesOf copies an image into planes of its size.
func planesOf(m Image) Planes {
	p := NewPlanes(m.Width, m.Height)
	n := m.Width * m.Height
	for i := range n {
		for c := range 3 {
			p.Pix[c*n+i] = m.Pix[3*i+c]
		}
	}
	return p
}

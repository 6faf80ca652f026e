package decode

import (
	"bytes"
	"errors"
	"image/png"
	"os"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/golden"
)

// TestGolden compares with Pillow: byte for byte, but for JPEGs through Go's
// decoder, within what another inverse cosine transform may differ.
func TestGolden(t *testing.T) { eachJPEGDecoder(t, testGolden) }

func testGolden(t *testing.T, d *Decoder) { // one for all: what a case leaves behind must not matter to the next
	var cases []struct{ File, Pixels, Note string }
	golden.JSON(t, &cases, "decode", "cases.json")
	if len(cases) == 0 {
		t.Fatal("cases.json is empty")
	}
	var m augment.Image
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			data := readFile(t, golden.Path(t, "decode", c.File))
			err := d.Decode(data, &m)
			switch {
			case c.Pixels != "":
				if err != nil {
					t.Fatal(err)
				}
				want := readPNG(t, golden.Path(t, "decode", c.Pixels))
				if sniff(data) == "jpeg" && d.portable {
					checkClose(t, m, want)
				} else {
					checkEqual(t, m, want)
				}
			case err == nil: // 16-bit grey: any sane conversion is accepted
				h, err := ReadHeader(data)
				if err != nil {
					t.Fatal(err)
				}
				if h.Format != "png" || !uniform(m) || m.Pix[0] < 116 || m.Pix[0] > 118 {
					t.Errorf("%s: decoded, want an error or the grey 30000/65535 of 255", c.Note)
				}
			case !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge):
				t.Errorf("error of no class: %v", err)
			}
		})
	}
}

func uniform(m augment.Image) bool {
	for _, v := range m.Pix {
		if v != m.Pix[0] {
			return false
		}
	}
	return true
}

func checkEqual(t *testing.T, got, want augment.Image) {
	t.Helper()
	if got.Width != want.Width || got.Height != want.Height {
		t.Fatalf("size is %d x %d, want %d x %d", got.Width, got.Height, want.Width, want.Height)
	}
	for i, v := range got.Pix {
		if v != want.Pix[i] {
			t.Fatalf("pixel %d, channel %d is %d, want %d", i/3, i%3, v, want.Pix[i])
		}
	}
}

// checkClose allows a mean difference of 0.5 and differences above 6 in one
// sample of a hundred. Inverse transforms differ by one, which chroma's matrix
// and clipping to 0 … 255 before it can turn into a few.
func checkClose(t *testing.T, got, want augment.Image) {
	t.Helper()
	if got.Width != want.Width || got.Height != want.Height {
		t.Fatalf("size is %d x %d, want %d x %d", got.Width, got.Height, want.Width, want.Height)
	}
	sum, far, largest := 0, 0, 0
	for i, v := range got.Pix {
		d := int(v) - int(want.Pix[i])
		d = max(d, -d)
		sum += d
		largest = max(largest, d)
		if d > 6 {
			far++
		}
	}
	n := len(got.Pix)
	t.Logf("mean difference %.4f, largest %d, %d of %d above 6", float64(sum)/float64(n), largest, far, n)
	if float64(sum) > 0.5*float64(n) || 100*far > n {
		t.Errorf("mean difference %.4f, %d of %d samples are off by more than 6", float64(sum)/float64(n), far, n)
	}
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readPNG reads an RGB PNG without the code under test.
func readPNG(tb testing.TB, path string) augment.Image {
	tb.Helper()
	picture, err := png.Decode(bytes.NewReader(readFile(tb, path)))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	bounds := picture.Bounds()
	m := augment.Image{Width: bounds.Dx(), Height: bounds.Dy()}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			m.Pix = append(m.Pix, uint8(r>>8), uint8(g>>8), uint8(b>>8))
		}
	}
	return m
}

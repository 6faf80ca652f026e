package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
				const depth, colourType = 24, 25
				if sniff(data) != "png" || data[depth] != 16 || data[colourType] != 0 {
					t.Fatalf("%s: decoded, want an error", c.Note)
				}
				checkEqual(t, m, readPNG(t, golden.Path(t, "decode", c.File)))
			case !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge):
				t.Errorf("error of no class: %v", err)
			}
		})
	}
}

// TestRareKinds compares files of testdata/make_cases.py in the same way.
func TestRareKinds(t *testing.T) {
	var d Decoder
	var m augment.Image
	for _, path := range rareKinds(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data := readFile(t, path)
			if err := d.Decode(data, &m); err != nil {
				t.Fatal(err)
			}
			want := readPNG(t, path+".pixels.png")
			if sniff(data) == "jpeg" {
				checkClose(t, m, want)
			} else {
				checkEqual(t, m, want)
			}
		})
	}
}

// rareKinds returns the encoded images in testdata.
func rareKinds(tb testing.TB) []string {
	tb.Helper()
	expected, err := filepath.Glob("testdata/*.pixels.png")
	if err != nil || len(expected) == 0 {
		tb.Fatalf("no cases in testdata: %v", err)
	}
	for i, path := range expected {
		expected[i] = strings.TrimSuffix(path, ".pixels.png")
	}
	return expected
}

// TestCutOff cuts files at many places: there is an error, or nothing that
// belongs to the pixels was missing.
func TestCutOff(t *testing.T) {
	paths := rareKinds(t)
	for _, name := range []string{"jpeg_420.JPEG", "jpeg_progressive_420.jpg", "jpeg_grey.jpg", "palette.png", "gif.gif", "bmp.bmp", "webp_lossless.webp"} {
		paths = append(paths, golden.Path(t, "decode", name))
	}
	var d Decoder
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data := readFile(t, path)
			var whole, m augment.Image
			if err := d.Decode(data, &whole); err != nil {
				t.Fatal(err)
			}
			step := max(len(data)/100, 1)
			for n := 0; n < len(data); n += step {
				err := d.Decode(data[:n], &m)
				if err == nil {
					if n < len(data)-16 {
						t.Fatalf("the first %d of %d bytes decode without an error", n, len(data))
					}
					checkEqual(t, m, whole)
				} else if !errors.Is(err, ErrFormat) {
					t.Fatalf("the first %d of %d bytes: error of no class: %v", n, len(data), err)
				}
			}
			// As a tool may have mended it that knows where files end.
			if sniff(data) == "jpeg" {
				half := append(slices.Clone(data[:len(data)*2/3]), 0xFF, 0xD9)
				if err := d.Decode(half, &m); !errors.Is(err, ErrFormat) && !bytes.Contains(data, []byte{0xFF, 0xC2}) {
					t.Errorf("cut off with an end marker behind: error is %v", err)
				}
			}
		})
	}
}

// TestMissingScan takes a file of one scan for each component and leaves the
// last ones out: nothing must stand in for them.
func TestMissingScan(t *testing.T) {
	data := readFile(t, golden.Path(t, "decode", "jpeg_progressive_444.jpg"))
	// The second scan is the first that has one component only, the luma.
	var scans []int
	for s := range segments(data) {
		if s.marker == markerSOS {
			scans = append(scans, s.at-4)
		}
	}
	if len(scans) < 3 {
		t.Fatalf("%d scans, want a progressive file", len(scans))
	}
	lumaOnly := append(slices.Clone(data[:scans[0]]), data[scans[1]:scans[2]]...)
	lumaOnly = append(lumaOnly, 0xFF, 0xD9)
	var m augment.Image
	if err := new(Decoder).Decode(lumaOnly, &m); !errors.Is(err, ErrFormat) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v, want ErrFormat and io.ErrUnexpectedEOF", err)
	}
}

// TestTooLarge refuses by the header, before anything is allocated.
func TestTooLarge(t *testing.T) {
	var m augment.Image
	var d Decoder
	err := d.Decode(readFile(t, golden.Path(t, "decode", "bad_bomb.png")), &m)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "3600000000") || !strings.Contains(err.Error(), "89478485") {
		t.Errorf("error is %v, want ErrTooLarge with size and limit", err)
	}
	data := readFile(t, golden.Path(t, "decode", "jpeg_420.JPEG"))
	d.MaxPixels = 131*97 - 1
	if err := d.Decode(data, &m); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one pixel over the limit: error is %v", err)
	}
	d.MaxPixels = 131 * 97
	if err := d.Decode(data, &m); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

// TestTinyFileThatClaimsMuch stays below MaxPixels, but cannot be true.
func TestTinyFileThatClaimsMuch(t *testing.T) {
	png := slices.Clone(readFile(t, "testdata/png_rgb16.png"))
	binary.BigEndian.PutUint32(png[16:], 6_000)
	binary.BigEndian.PutUint32(png[20:], 6_000)
	binary.BigEndian.PutUint32(png[29:], crc32.ChecksumIEEE(png[12:29]))
	bmp := slices.Clone(readFile(t, "testdata/bmp_alpha.bmp"))
	binary.LittleEndian.PutUint32(bmp[18:], 6_000)
	binary.LittleEndian.PutUint32(bmp[22:], 6_000)
	jpeg := slices.Clone(readFile(t, "testdata/jpeg_440.jpg"))
	frame := bytes.Index(jpeg, []byte{0xFF, 0xC0})
	binary.BigEndian.PutUint16(jpeg[frame+5:], 6_000)
	binary.BigEndian.PutUint16(jpeg[frame+7:], 6_000)
	for name, data := range map[string][]byte{"png": png, "bmp": bmp, "jpeg": jpeg} {
		t.Run(name, func(t *testing.T) {
			data = append(data, make([]byte, 50_000)...) // a bit for a block of JPEG would be 70 kB
			if h, err := ReadHeader(data); err != nil || h != (Header{name, 6_000, 6_000}) {
				t.Fatalf("header is %+v, %v", h, err)
			}
			var m augment.Image
			var d Decoder
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := d.Decode(data, &m)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrFormat) {
				t.Errorf("error is %v, want ErrFormat", err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes were allocated for %d bytes of data", n, len(data))
			}
		})
	}
}

// TestReadHeader agrees with what is decoded.
func TestReadHeader(t *testing.T) {
	formats := map[string]string{".jpg": "jpeg", ".png": "png", ".gif": "gif", ".bmp": "bmp", ".webp": "webp"}
	for _, path := range rareKinds(t) {
		want := readPNG(t, path+".pixels.png")
		h, err := ReadHeader(readFile(t, path))
		if err != nil || h != (Header{formats[filepath.Ext(path)], want.Width, want.Height}) {
			t.Errorf("%s: header is %+v, %v; the image has %d x %d", path, h, err, want.Width, want.Height)
		}
	}
	h, err := ReadHeader(readFile(t, golden.Path(t, "decode", "png_named_jpeg.JPEG")))
	if err != nil || h.Format != "png" {
		t.Errorf("a PNG with the name of a JPEG file is %+v, %v", h, err)
	}
	for name, data := range map[string]string{
		"empty": "", "page": "<html>404</html>", "signature alone": "\xff\xd8\xff", "other": "RIFF\x04\x00\x00\x00WAVE",
		"no pixels": "GIF89a\x00\x00\x05\x00\x00\x00\x00",
	} {
		if h, err := ReadHeader([]byte(data)); !errors.Is(err, ErrFormat) || h != (Header{}) {
			t.Errorf("%s: header is %+v, %v, want ErrFormat", name, h, err)
		}
	}
}

// TestDecodeReusesMemory decodes a smaller image into the memory of a larger.
func TestDecodeReusesMemory(t *testing.T) {
	var d Decoder
	var m augment.Image
	if err := d.Decode(readFile(t, golden.Path(t, "decode", "bmp.bmp")), &m); err != nil {
		t.Fatal(err)
	}
	first := &m.Pix[0]
	if err := d.Decode(readFile(t, "testdata/png_interlaced.png"), &m); err != nil {
		t.Fatal(err)
	}
	if &m.Pix[0] != first {
		t.Error("other memory was allocated")
	}
	checkEqual(t, m, readPNG(t, "testdata/png_interlaced.png.pixels.png"))
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

package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/bmp"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/internal/hostile"
)

// TestCostHolds decodes images of all kinds in Go and compares what is allocated
// with what is said before.
func TestCostHolds(t *testing.T) {
	for name, data := range costly(t) {
		h, err := ReadHeader(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := h.cost(data)
		d := Decoder{portable: true}
		var m augment.Image
		took := allocated(func() {
			if err := d.Decode(data, &m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		})
		const slack = 300 << 10 // of tables and readers
		if took > c.memory+slack {
			t.Errorf("%s of %d x %d allocates %d bytes (%.1f a pixel), expected were at most %d", name, h.Width, h.Height, took, float64(took)/float64(h.pixels()), c.memory)
		}
		if h.Format != "webp" && took < c.memory/3 {
			t.Errorf("%s of %d x %d allocates %d bytes, expected were as many as %d", name, h.Width, h.Height, took, c.memory)
		}
		if c.time <= 0 || c.time > time.Second {
			t.Errorf("%s of %d x %d takes %v", name, h.Width, h.Height, c.time)
		}
	}
}

// BenchmarkCost compares the time that decoding in Go takes with what is said
// before: expected/taken.
func BenchmarkCost(b *testing.B) {
	for name, data := range costly(b) {
		b.Run(name, func(b *testing.B) {
			h, err := ReadHeader(data)
			if err != nil {
				b.Fatal(err)
			}
			d := Decoder{portable: true}
			var m augment.Image
			for b.Loop() {
				if err := d.Decode(data, &m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(h.cost(data).time.Seconds()*float64(b.N)/b.Elapsed().Seconds(), "expected/taken")
		})
	}
}

func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// costly are the golden images and larger ones of the formats that Go writes.
func costly(t testing.TB) map[string][]byte {
	files := map[string][]byte{}
	for _, name := range []string{
		"jpeg_420.JPEG", "jpeg_progressive_422.jpg", "jpeg_cmyk.JPEG", "jpeg_grey.jpg",
		"palette.png", "rgba.png", "grey16.png", "bmp.bmp", "webp_lossless.webp", "gif.gif",
	} {
		files[name] = readFile(t, golden.Path(t, "decode", name))
	}
	const width, height = 900, 700
	bounds := image.Rect(0, 0, width, height)
	encode := func(name string, encode func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		files[name] = b.Bytes()
	}
	deep, flat, grey := image.NewNRGBA64(bounds), image.NewNRGBA(bounds), image.NewGray(bounds)
	palette := image.NewPaletted(bounds, color.Palette{color.Black, color.White, color.Transparent})
	for i := range width * height {
		x, y := i%width, i/width
		c := color.NRGBA{uint8(x * y), uint8(x), uint8(y), uint8(x + y)}
		deep.Set(x, y, c)
		flat.Set(x, y, c)
		grey.Set(x, y, c)
		palette.SetColorIndex(x, y, uint8(i*i%3))
	}
	for name, m := range map[string]image.Image{"deep.png": deep, "alpha.png": flat, "grey.png": grey, "palette.png": palette} {
		encode("large "+name, func(b *bytes.Buffer) error { return png.Encode(b, m) })
	}
	encode("large.jpg", func(b *bytes.Buffer) error { return jpeg.Encode(b, flat, nil) })
	encode("large grey.jpg", func(b *bytes.Buffer) error { return jpeg.Encode(b, grey, nil) })
	encode("large.gif", func(b *bytes.Buffer) error { return gif.Encode(b, palette, nil) })
	files["large progressive.jpg"] = hostile.JPEG(width, height, 41)
	files["empty blocks.png"] = hostile.EmptyBlocksPNG(25_000)
	encode("large.bmp", func(b *bytes.Buffer) error { return bmp.Encode(b, flat) })
	return files
}

// TestTimeOfRareKinds has files whose size in pixels says little of the time that
// they take. An arithmetic code can say less than a bit a value, and the values of
// a scan be all there is: libjpeg-turbo takes 3.6 ns for each on a Zen 4.
func TestTimeOfRareKinds(t *testing.T) {
	const width, height, scans = 1600, 1600, 43
	arithmetic := hostile.ArithmeticJPEG(width, height, scans)
	for name, c := range map[string]struct {
		data []byte
		took time.Duration
	}{
		"arithmetic.jpg":   {arithmetic, width * height * (scans - 1) * 36 / 10},
		"empty blocks.png": {hostile.EmptyBlocksPNG(300_000), 333 * time.Millisecond},
	} {
		h, err := ReadHeader(c.data)
		if err != nil {
			t.Fatal(err)
		}
		if cost := h.cost(c.data); cost.time < c.took || cost.time > 10*c.took {
			t.Errorf("%s is expected to take %v, and took %v", name, cost.time, c.took)
		}
		d := Decoder{Limits: Limits{MaxTime: c.took}}
		var m augment.Image
		if err := d.Decode(c.data, &m); err == nil || !strings.Contains(err.Error(), "--max-decode-time") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	huffman := hostile.JPEG(width, height, scans)
	h, err := ReadHeader(arithmetic)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.cost(arithmetic).memory, h.cost(huffman).memory; got != want {
		t.Errorf("arithmetic codes are expected to take %d bytes, Huffman's %d", got, want)
	}
}

// TestLimits refuses images by what they would take, before anything is
// allocated, in one sentence that names the limit.
func TestLimits(t *testing.T) {
	bomb := func(width, height uint32, depth, colourType, interlace byte) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		binary.BigEndian.PutUint32(data[16:], width)
		binary.BigEndian.PutUint32(data[20:], height)
		data[24], data[25], data[28] = depth, colourType, interlace
		return data
	}
	for name, c := range map[string]struct {
		data   []byte
		limits Limits
		want   string
	}{
		"pixels":            {bomb(12000, 12000, 8, 2, 0), Limits{}, "144000000 pixels, the limit (--max-pixels) is 89478485"},
		"pixels by option":  {bomb(100, 101, 8, 2, 0), Limits{MaxPixels: 10000}, "10100 pixels"},
		"16-bit samples":    {bomb(8000, 8000, 16, 6, 0), Limits{}, "MiB to decode, the limit is 384 MiB"},
		"interlaced":        {bomb(7000, 7000, 8, 2, 1), Limits{}, "MiB to decode"},
		"scans":             {hostile.JPEG(800, 800, 101), Limits{}, "has 101 scans, the limit is 100"},
		"time":              {hostile.JPEG(800, 800, 100), Limits{MaxTime: 10 * time.Millisecond}, "(--max-decode-time) is 10ms"},
		"large progressive": {hostile.JPEG(9000, 9000, 11), Limits{}, "MiB to decode"},
	} {
		var m augment.Image
		d := Decoder{Limits: c.limits}
		var err error
		took := allocated(func() { err = d.Decode(c.data, &m) })
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
		if took > 100<<10 {
			t.Errorf("%s: %d bytes were allocated before it was refused", name, took)
		}
	}
}

// TestScansThatAreAllowed decodes what TestLimits refuses, with a scan less.
func TestScansThatAreAllowed(t *testing.T) {
	for _, portable := range []bool{false, true} {
		d := Decoder{portable: portable}
		var m augment.Image
		if err := d.Decode(hostile.JPEG(800, 800, 100), &m); err != nil {
			t.Errorf("portable %v: %v", portable, err)
		}
	}
}

// TestPanicIsASentence: what a decoder says when it panics is of no use.
func TestPanicIsASentence(t *testing.T) {
	_, err := guard(func(io.Reader) (int, error) { panic(errors.New("runtime error: index out of range [3] with length 3")) }, nil)
	if err == nil || strings.Contains(err.Error(), "runtime") {
		t.Errorf("error is %v", err)
	}
}

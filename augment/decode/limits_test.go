package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
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
	files["large progressive.jpg"] = withScans(width, height, 40)
	files["empty blocks.png"] = withEmptyBlocks(25_000)
	encode("large.bmp", func(b *bytes.Buffer) error { return bmp.Encode(b, flat) })
	return files
}

// withScans is a grey progressive JPEG of so many scans after the one of its mean
// values, each empty but for one run over all blocks.
func withScans(width, height, scans int) []byte {
	b := []byte{0xFF, markerSOI, 0xFF, markerDQT, 0, 67, 0}
	for range 64 {
		b = append(b, 1)
	}
	b = append(b, 0xFF, markerSOF2, 0, 11, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), 1, 1, 0x11, 0)
	// Tables of one code, 0, for a difference of 0, and for a run of 2^14 blocks and more.
	for class, symbol := range []byte{0, 0xE0} {
		b = append(b, 0xFF, markerDHT, 0, 20, byte(class<<4), 1)
		b = append(append(b, make([]byte, 15)...), symbol)
	}
	blocks := (width + 7) / 8 * ((height + 7) / 8)
	b = append(b, 0xFF, markerSOS, 0, 8, 1, 1, 0, 0, 0, 0)
	b = append(b, make([]byte, (blocks+7)/8)...) // a 0 for each block
	for range scans {
		b = append(b, 0xFF, markerSOS, 0, 8, 1, 1, 0, 1, 63, 0)
		runs := make([]byte, 2*((blocks+1<<14-1)>>14)+1) // 15 bits for a run: 0, and 14 of its length
		b = append(b, runs...)
	}
	return append(b, 0xFF, markerEOI)
}

// withEmptyBlocks is a PNG of one grey pixel behind so many blocks of compressed
// data that have a table of codes and nothing else.
func withEmptyBlocks(blocks int) []byte {
	data, bits := []byte{0x78, 0x01}, 0
	put := func(value uint32, n int) { // the lowest bit first
		for i := range n {
			if bits%8 == 0 {
				data = append(data, 0)
			}
			data[len(data)-1] |= byte(value>>i&1) << (bits % 8)
			bits++
		}
	}
	for range blocks {
		put(0b100, 3) // not the last block; with a table
		put(0, 5)     // 257 codes of bytes and the end
		put(0, 5)     // one of distances
		put(14, 4)    // 18 lengths of the codes that these are written with,
		for _, length := range []uint32{0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2} {
			put(length, 3) // of 18 (zeros), 0 and 1
		}
		put(0, 1)
		put(127, 7) // 138 zeros
		put(0, 1)
		put(107, 7)  // 118 zeros
		put(0b11, 2) // the end has a code of one bit,
		put(0b01, 2) // and distances have none
		put(0, 1)    // the end
	}
	put(0b001, 3) // the last block, as it is
	data = append(data, 2, 0, 0xFD, 0xFF, 0, 0)
	data = binary.BigEndian.AppendUint32(data, 2<<16|1) // Adler-32 of two zeros

	file := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(name string, content []byte) {
		file = binary.BigEndian.AppendUint32(file, uint32(len(content)))
		body := append([]byte(name), content...)
		file = binary.BigEndian.AppendUint32(append(file, body...), crc32.ChecksumIEEE(body))
	}
	chunk("IHDR", []byte{0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0})
	chunk("IDAT", data)
	chunk("IEND", nil)
	return file
}

// TestTimeOfRareKinds has files whose size in pixels says little of the time that
// they take. An arithmetic code can say less than a bit a value, and the values of
// a scan be all there is: libjpeg-turbo takes 3.6 ns for each on a Zen 4.
func TestTimeOfRareKinds(t *testing.T) {
	const width, height, scans = 1600, 1600, 42
	arithmetic := withScans(width, height, scans)
	frame := bytes.Index(arithmetic, []byte{0xFF, markerSOF2})
	arithmetic[frame+1] = 0xCA // SOF10
	for name, c := range map[string]struct {
		data []byte
		took time.Duration
	}{
		"arithmetic.jpg":   {arithmetic, width * height * scans * 36 / 10},
		"empty blocks.png": {withEmptyBlocks(300_000), 333 * time.Millisecond},
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
	huffman := withScans(width, height, scans)
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
		"scans":             {withScans(800, 800, 100), Limits{}, "has 101 scans, the limit is 100"},
		"time":              {withScans(800, 800, 99), Limits{MaxTime: 10 * time.Millisecond}, "(--max-decode-time) is 10ms"},
		"large progressive": {withScans(9000, 9000, 10), Limits{}, "MiB to decode"},
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
		if err := d.Decode(withScans(800, 800, 99), &m); err != nil {
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

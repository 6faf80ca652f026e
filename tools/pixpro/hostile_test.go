package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"maps"

	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHostileImages shards, verifies and augments images that were made to take
// memory or time, each of which is as much as is allowed, or more.
func TestHostileImages(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the peak of memory is read on Linux only")
	}
	if testing.Short() {
		t.Skip("decodes hundreds of megapixels, which takes minutes under the race detector; make test runs it")
	}
	in := t.TempDir()
	accepted := 0
	for name, file := range hostileImages(t) {
		if err := os.WriteFile(filepath.Join(in, name), file, 0o666); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "most") {
			accepted++
		}
	}
	for _, decoder := range []string{"", "go"} {
		out := filepath.Join(t.TempDir(), "shards")
		text := runHostile(t, decoder, "shard", "--in", in, "--out", out, "--check", "decode", "--max-bad", "100%", "--json")
		if !strings.Contains(text, fmt.Sprintf(`"rows":%d`, accepted)) && !strings.Contains(text, fmt.Sprintf(`"rows": %d`, accepted)) {
			rejected, _ := os.ReadFile(filepath.Join(out, "rejected.jsonl"))
			t.Errorf("not %d images are accepted: %s\n%s", accepted, text, rejected)
		}
		rejected, err := os.ReadFile(filepath.Join(out, "rejected.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		checkWords(t, string(rejected))
		if decoder != "" {
			continue
		}
		runHostile(t, decoder, "verify", "--shards", out, "--deep")

		all := filepath.Join(t.TempDir(), "all") // also what cannot be decoded
		runHostile(t, decoder, "shard", "--in", in, "--out", all, "--max-bad", "100%")
		runHostile(t, decoder, "augment", "--shards", all, "--size", "32", "--batch", "4", "--epochs", "1", "--max-bad", "1", "--out", os.DevNull)
	}
}

// runHostile runs a command, which must end well, within the promised memory and
// in plain words, and returns what it says.
func runHostile(t *testing.T, decoder string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", sayPeak+"=1", "PIXPRO_JPEG="+decoder)
	start := time.Now()
	text, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		t.Errorf("pixpro %v: %v\n%s", args, err, text)
	}
	checkWords(t, string(text))
	peak := regexp.MustCompile(`peak memory (\d+)`).FindSubmatch(text)
	if peak == nil {
		t.Fatalf("no peak of memory in %s", text)
	}
	n, err := strconv.ParseInt(string(peak[1]), 10, 64)
	if err != nil || n > 512<<20 {
		t.Errorf("pixpro %s took %d MiB (%v)", args[0], n>>20, err)
	}
	t.Logf("%s with decoder %q: %d MiB, %v", args[0], decoder, n>>20, took.Round(time.Millisecond))
	return string(text)
}

// checkWords looks for what Go's runtime says.
func checkWords(t *testing.T, text string) {
	t.Helper()
	if m := regexp.MustCompile(`(?i).*(runtime error|goroutine|nil pointer|panic).*`).FindString(text); m != "" {
		t.Errorf("a message of Go's runtime: %s", m)
	}
}

// hostileImages are files by name; those that are named "most" are within what is
// allowed, the others are not, or are damaged.
func hostileImages(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		"most-pixels.jpg":      greyJPEG(9200, 9200, 1),
		"more-pixels.jpg":      greyJPEG(9500, 9500, 1),
		"most-progressive.jpg": greyJPEG(7000, 7000, 10),
		"more-progressive.jpg": greyJPEG(9000, 9000, 10),
		"most-scans.jpg":       greyJPEG(2000, 2000, 99),
		"more-scans.jpg":       greyJPEG(8000, 8000, 3000),
		"most-rgb.png":         blackPNG(7500, 7500, 8, 2),
		"more-rgb.png":         blackPNG(12000, 12000, 8, 2),
		"most-deep.png":        blackPNG(6000, 6000, 16, 6),
		"more-deep.png":        blackPNG(6200, 6200, 16, 6),
		"most-lossless.webp":   flatWebP(6000, 6000),
		"more-lossless.webp":   flatWebP(16383, 16383),
		"most.bmp":             greyBMP(4000, 4000),
		"more.bmp":             greyBMP(8000, 8000),
	}
	for name, side := range map[string]int{"most.gif": 8900, "more.gif": 9400} {
		m := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.Black, color.White})
		var b bytes.Buffer
		if err := gif.Encode(&b, m, nil); err != nil {
			t.Fatal(err)
		}
		files[name] = b.Bytes()
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if whole, ok := strings.CutPrefix(name, "most"); ok { // and what lacks its end
			files["cut"+whole] = files[name][:len(files[name])-len(files[name])/3]
		}
	}
	return files
}

// greyJPEG is an even image. More than one scan make it progressive; each takes a
// few bytes for all blocks.
func greyJPEG(width, height, scans int) []byte {
	progressive := scans > 1
	b := []byte{0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0}
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	frame, last, symbol := byte(0xC0), byte(63), byte(0) // the end of a block
	if progressive {
		frame, last, symbol = 0xC2, 0, 0xE0 // the end of 2^14 blocks
	}
	b = append(b, 0xFF, frame, 0, 11, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), 1, 1, 0x11, 0)
	for class, symbol := range []byte{0, symbol} { // tables of one code, which is the bit 0
		b = append(b, 0xFF, 0xC4, 0, 20, byte(class<<4), 1)
		b = append(append(b, make([]byte, 15)...), symbol)
	}
	blocks := (width + 7) / 8 * ((height + 7) / 8)
	b = append(b, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, last, 0)
	if !progressive {
		return append(append(b, make([]byte, (2*blocks+7)/8)...), 0xFF, 0xD9)
	}
	b = append(b, make([]byte, (blocks+7)/8)...)
	for range scans - 1 {
		b = append(b, 0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 63, 0)
		b = append(b, make([]byte, 2*(blocks>>14+1)+1)...)
	}
	return append(b, 0xFF, 0xD9)
}

// blackPNG is compressed as far as zlib goes.
func blackPNG(width, height int, depth, colourType byte) []byte {
	channels := map[byte]int{0: 1, 2: 3, 6: 4}[colourType]
	var pixels bytes.Buffer
	z, _ := zlib.NewWriterLevel(&pixels, zlib.BestSpeed)
	row := make([]byte, 1+width*channels*int(depth)/8)
	for range height {
		_, _ = z.Write(row)
	}
	_ = z.Close()
	b := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(name string, body []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		at := len(b)
		b = append(append(b, name...), body...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(width)), uint32(height))
	chunk("IHDR", append(head, depth, colourType, 0, 0, 0))
	chunk("IDAT", pixels.Bytes())
	chunk("IEND", nil)
	return b
}

// flatWebP is a lossless image of one colour, whose pixels take no bits.
func flatWebP(width, height int) []byte {
	head := uint64(0x2F) | uint64(width-1)<<8 | uint64(height-1)<<22
	body := binary.LittleEndian.AppendUint64(nil, head)[:5] // and no alpha, version 0
	// No transform, cache of colours or further trees, which is 0 three times; and
	// five trees of the symbol 0, each 1 0 0 0. The lowest bit comes first.
	body = append(body, 0b10001000, 0b10001000, 0b00001000, 0, 0, 0, 0)
	b := []byte("RIFF\x00\x00\x00\x00WEBPVP8L")
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// greyBMP has a palette.
func greyBMP(width, height int) []byte {
	const header, colours = 14 + 40, 256
	b := make([]byte, header+4*colours, header+4*colours+width*height)
	copy(b, "BM")
	le := binary.LittleEndian
	le.PutUint32(b[2:], uint32(cap(b)))
	le.PutUint32(b[10:], uint32(len(b)))
	le.PutUint32(b[14:], 40)
	le.PutUint32(b[18:], uint32(width))
	le.PutUint32(b[22:], uint32(height))
	le.PutUint16(b[26:], 1)
	le.PutUint16(b[28:], 8)
	le.PutUint32(b[46:], colours)
	return b[:cap(b)]
}

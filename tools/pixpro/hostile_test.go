package main

import (
	"bytes"
	"fmt"
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

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/hostile"
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
	accepted, ofLibrary := 0, 0
	for name, file := range hostileImages(t) {
		if err := os.WriteFile(filepath.Join(in, name), file, 0o666); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "most") {
			accepted++
		}
		if strings.HasPrefix(name, "library") && decode.LibraryError() == nil {
			ofLibrary++
		}
	}
	for _, decoder := range []string{"", "go"} {
		out := filepath.Join(t.TempDir(), "shards")
		text := runHostile(t, decoder, "shard", "--in", in, "--out", out, "--check", "decode", "--max-bad", "100%", "--json")
		want := accepted
		if decoder == "" {
			want += ofLibrary
		}
		if !strings.Contains(text, fmt.Sprintf(`"rows":%d`, want)) && !strings.Contains(text, fmt.Sprintf(`"rows": %d`, want)) {
			rejected, _ := os.ReadFile(filepath.Join(out, "rejected.jsonl"))
			t.Errorf("not %d images are accepted: %s\n%s", want, text, rejected)
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
// allowed, those named "library" so for libjpeg-turbo alone; the others are not, or
// are damaged.
func hostileImages(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		"most-pixels.jpg":      hostile.JPEG(9200, 9200, 1),
		"more-pixels.jpg":      hostile.JPEG(9500, 9500, 1),
		"most-progressive.jpg": hostile.JPEG(7000, 7000, 10),
		"more-progressive.jpg": hostile.JPEG(9000, 9000, 10),
		"most-scans.jpg":       hostile.JPEG(2000, 2000, 99),
		"more-scans.jpg":       hostile.JPEG(8000, 8000, 3000),
		// Go's decoder refuses these.
		"library-arithmetic.jpg": hostile.ArithmeticJPEG(3000, 3000, 80),
		"more-arithmetic.jpg":    hostile.ArithmeticJPEG(4000, 4000, 80),
		"most-blocks.png":        hostile.EmptyBlocksPNG(1_000_000),
		"most-rgb.png":           hostile.PNG(7500, 7500, 8, 2),
		"more-rgb.png":           hostile.PNG(12000, 12000, 8, 2),
		"most-deep.png":          hostile.PNG(6000, 6000, 16, 6),
		"more-deep.png":          hostile.PNG(6200, 6200, 16, 6),
		"most-lossless.webp":     hostile.WebP(6000, 6000),
		"more-lossless.webp":     hostile.WebP(16383, 16383),
		"most.bmp":               hostile.BMP(4000, 4000),
		"more.bmp":               hostile.BMP(8000, 8000),
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

package evaluate

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment/decode"
)

func writePNG(t *testing.T, path string, m image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, encodePNG(t, m), 0o666); err != nil {
		t.Fatal(err)
	}
}

func encodePNG(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFolderNamesTheFirstFiveThatDoNotMatch(t *testing.T) {
	dir := t.TempDir()
	images, masks := filepath.Join(dir, "images"), filepath.Join(dir, "masks")
	for i := range 9 {
		writePNG(t, filepath.Join(images, fmt.Sprintf("c/%d.png", i)), image.NewRGBA(image.Rect(0, 0, 6, 5)))
	}
	for i := 2; i < 12; i++ { // 0, 1 lack a mask, 9 to 11 an image, 2 and 3 fit not
		width := 6
		if i < 4 {
			width = 5
		}
		writePNG(t, filepath.Join(masks, fmt.Sprintf("c/%d.png", i)), image.NewGray(image.Rect(0, 0, width, 5)))
	}
	_, err := OpenFolder(t.Context(), images, masks)
	if !errors.Is(err, ErrUnmatched) {
		t.Fatalf("got %v", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 7 || !strings.Contains(lines[0], "7 places") || !strings.Contains(lines[6], "2 more") || !strings.Contains(lines[1], "0.png has no mask") {
		t.Errorf("the error is:\n%v", err)
	}
	for _, i := range []int{0, 1, 9, 10, 11} {
		for _, path := range []string{filepath.Join(images, fmt.Sprintf("c/%d.png", i)), filepath.Join(masks, fmt.Sprintf("c/%d.png", i))} {
			os.Remove(path)
		}
	}
	if _, err = OpenFolder(t.Context(), images, masks); !errors.Is(err, ErrUnmatched) || !strings.Contains(err.Error(), "5 x 5") {
		t.Errorf("sizes that differ give %v", err)
	}
	for i := 2; i < 4; i++ {
		writePNG(t, filepath.Join(masks, fmt.Sprintf("c/%d.png", i)), image.NewGray(image.Rect(0, 0, 6, 5)))
	}
	f, err := OpenFolder(t.Context(), images, masks)
	if err != nil || len(f.Masks) != 7 || f.Names[0] != filepath.Join("c", "2") || f.Classes() != 1 {
		t.Errorf("the folder is %+v (%v)", f, err)
	}
	if _, err := OpenFolder(t.Context(), t.TempDir(), t.TempDir()); err == nil {
		t.Error("a folder without images is taken")
	}

	// Through links to the folders, with masks of nothing.
	links := t.TempDir()
	if err := errors.Join(os.Symlink(images, filepath.Join(links, "images")), os.Symlink(masks, filepath.Join(links, "masks"))); err != nil {
		t.Skipf("Windows lets only privileged users make links, which the rest follows: %v", err)
	}
	linked, err := OpenFolder(t.Context(), filepath.Join(links, "images"), filepath.Join(links, "masks"))
	if err != nil || !cmp.Equal(linked.Names, f.Names) {
		t.Errorf("through links: %+v (%v)", linked, err)
	}
	nothing := image.NewGray(image.Rect(0, 0, 6, 5))
	for i := range nothing.Pix {
		nothing.Pix[i] = Ignore
	}
	for i := 2; i < 9; i++ {
		writePNG(t, filepath.Join(masks, fmt.Sprintf("c/%d.png", i)), nothing)
	}
	if _, err := OpenFolder(t.Context(), images, masks); err == nil || !strings.Contains(err.Error(), masks) {
		t.Errorf("masks that count nowhere give %v", err)
	}
}

func TestDecodeMask(t *testing.T) {
	gray := image.NewGray(image.Rect(0, 0, 3, 1))
	copy(gray.Pix, []uint8{0, 7, 255})
	palette := image.NewPaletted(image.Rect(0, 0, 3, 1), color.Palette{color.Black, color.White, color.White})
	copy(palette.Pix, []uint8{2, 0, 1})
	// Two bits of grey a pixel: 3, 0, 2.
	twoBits := []byte("\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x03\x00\x00\x00\x01\x02\x00\x00\x00\x00\x74\x3b\x53\xc9\x00\x00\x00\x0a\x49\x44\x41\x54\x78\x9c\x63\x38\x01\x00\x00\xca\x00\xc9\x99\xca\x5d\x7e\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82")
	for name, c := range map[string]struct {
		data []byte
		want []uint8
	}{
		"grey":             {encodePNG(t, gray), []uint8{0, 7, 255}},
		"palette":          {encodePNG(t, palette), []uint8{2, 0, 1}},
		"grey of two bits": {twoBits, []uint8{3, 0, 2}},
	} {
		m, err := DecodeMask(c.data)
		if err != nil || !cmp.Equal(c.want, m.Classes) || m.Width != 3 || m.Height != 1 {
			t.Errorf("%s: %+v (%v), want %v", name, m, err, c.want)
		}
	}
	for name, data := range map[string][]byte{
		"colours": encodePNG(t, image.NewRGBA(image.Rect(0, 0, 2, 2))),
		"16 bits": encodePNG(t, image.NewGray16(image.Rect(0, 0, 2, 2))),
		"cut":     encodePNG(t, gray)[:50],
		"nothing": nil,
	} {
		if m, err := DecodeMask(data); !errors.Is(err, decode.ErrFormat) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzDecodeMask(f *testing.F) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 4, 3))); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decode.ReadHeader(data); err == nil && h.Width*h.Height > 1<<20 {
			t.Skip("a size that only costs time")
		}
		m, err := DecodeMask(data)
		if err == nil && len(m.Classes) != m.Width*m.Height {
			t.Errorf("%d x %d pixels have %d values", m.Width, m.Height, len(m.Classes))
		}
	})
}

// TestFolderNamesMasksThatAreTwice: which of two masks counts must not be left
// to chance.
func TestFolderNamesMasksThatAreTwice(t *testing.T) {
	dir := t.TempDir()
	images, masks := filepath.Join(dir, "images"), filepath.Join(dir, "masks")
	writePNG(t, filepath.Join(images, "a.png"), image.NewGray(image.Rect(0, 0, 3, 3)))
	writePNG(t, filepath.Join(masks, "a.png"), image.NewGray(image.Rect(0, 0, 3, 3)))
	writePNG(t, filepath.Join(masks, "a.PNG"), image.NewGray(image.Rect(0, 0, 3, 3)))
	if entries, err := os.ReadDir(masks); err != nil || len(entries) < 2 {
		t.Skip("this file system takes a.png and a.PNG for one file: there cannot be two masks")
	}
	_, err := OpenFolder(t.Context(), images, masks)
	if !errors.Is(err, ErrUnmatched) || !strings.Contains(err.Error(), "a.PNG") || !strings.Contains(err.Error(), "same name") {
		t.Errorf("got %v", err)
	}
	if _, err := OpenMasks(t.Context(), masks, slices.Values([]string{"a.png"})); !errors.Is(err, ErrUnmatched) {
		t.Errorf("OpenMasks: got %v", err)
	}
	writePNG(t, filepath.Join(masks, "b.png"), image.NewGray(image.Rect(0, 0, 3, 3)))
	if _, err := OpenMasks(t.Context(), masks, slices.Values([]string{"b.png"})); err != nil {
		t.Errorf("masks of an image that is not asked for give %v", err)
	}
}

// TestFolderNamesTheFirstBadMask whatever goroutine comes to it first.
func TestFolderNamesTheFirstBadMask(t *testing.T) {
	dir := t.TempDir()
	images, masks := filepath.Join(dir, "images"), filepath.Join(dir, "masks")
	for i := range 20 {
		name := fmt.Sprintf("%02d.png", i)
		writePNG(t, filepath.Join(images, name), image.NewGray(image.Rect(0, 0, 3, 3)))
		mask := image.Image(image.NewGray(image.Rect(0, 0, 3, 3)))
		if i >= 7 {
			mask = image.NewRGBA(image.Rect(0, 0, 3, 3))
		}
		writePNG(t, filepath.Join(masks, name), mask)
	}
	for range 20 {
		if _, err := OpenFolder(t.Context(), images, masks); !errors.Is(err, decode.ErrFormat) || !strings.Contains(err.Error(), filepath.Join(masks, "07.png")) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestMasksOfKeys(t *testing.T) {
	dir := t.TempDir()
	mask := image.NewGray(image.Rect(0, 0, 3, 2))
	mask.Pix[4] = 9
	writePNG(t, filepath.Join(dir, "c", "a.png"), mask)
	writePNG(t, filepath.Join(dir, "of nothing.png"), mask)
	m, err := OpenMasks(t.Context(), dir, slices.Values([]string{"c/a.jpg"}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Read("c/a.jpg", 3, 2)
	if err != nil || !cmp.Equal(got, &Mask{3, 2, mask.Pix}) {
		t.Errorf("the mask is %+v (%v)", got, err)
	}
	for _, key := range []string{"c/b.jpg", "a.jpg"} {
		if _, err := m.Read(key, 3, 2); !errors.Is(err, ErrUnmatched) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := m.Read("c/a.jpg", 2, 3); !errors.Is(err, ErrUnmatched) || !strings.Contains(err.Error(), "3 x 2") {
		t.Errorf("a mask of another size gives %v", err)
	}
	var keys []string
	for i := range 8 {
		keys = append(keys, fmt.Sprintf("c/%d.jpg", i))
	}
	_, err = OpenMasks(t.Context(), dir, slices.Values(append(keys, "c/a.jpg")))
	if !errors.Is(err, ErrUnmatched) || !strings.Contains(err.Error(), "8 places") || !strings.Contains(err.Error(), filepath.Join(dir, "c", "4.png")) || strings.Contains(err.Error(), "5.png") {
		t.Errorf("8 missing masks give %v", err)
	}
}

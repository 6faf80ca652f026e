package synth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/seed-436d2970/pixpro/internal/event"
)

// tree reads all files below dir.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func generate(t *testing.T, opts Options) (images, masks map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	opts.MasksDir = filepath.Join(dir, "masks")
	if err := Generate(t.Context(), filepath.Join(dir, "images"), opts); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
	return tree(t, filepath.Join(dir, "images")), tree(t, opts.MasksDir)
}

func TestSameSeedSameBytes(t *testing.T) {
	opts := Options{Images: 14, Seed: 7, MinSide: 40, MaxSide: 90, Workers: 1}
	images, masks := generate(t, opts)
	opts.Workers = 5
	images5, masks5 := generate(t, opts)
	for name := range images {
		if !bytes.Equal(images[name], images5[name]) {
			t.Errorf("%s depends on the number of workers", name)
		}
	}
	if len(images) != 14 || len(images5) != 14 || !cmp.Equal(masks, masks5) {
		t.Errorf("%d and %d pictures, or different masks", len(images), len(images5))
	}
	opts.Seed = 8
	other, _ := generate(t, opts)
	for name := range images {
		if bytes.Equal(images[name], other[name]) {
			t.Errorf("%s does not depend on the seed", name)
		}
	}
	// The first pictures are the same, however many there are.
	opts = Options{Images: 7, Seed: 7, MinSide: 40, MaxSide: 90}
	fewer, _ := generate(t, opts)
	for name := range fewer {
		if !bytes.Equal(images[name], fewer[name]) {
			t.Errorf("%s depends on the number of pictures", name)
		}
	}
}

func TestDataset(t *testing.T) {
	images, masks := generate(t, Options{Images: 60, Seed: 1})
	upright, lying := 0, 0
	for class, name := range ClassNames() {
		for i := range 10 {
			base := fmt.Sprintf("%s/%s_%04d", name, name, i)
			img, err := jpeg.Decode(bytes.NewReader(images[base+".jpg"]))
			if err != nil {
				t.Fatalf("%s: %v", base, err)
			}
			size := img.Bounds().Size()
			if min(size.X, size.Y) < 96 || max(size.X, size.Y) > 320 {
				t.Errorf("%s: %v", base, size)
			}
			if size.X > size.Y {
				lying++
			} else if size.X < size.Y {
				upright++
			}

			decoded, err := png.Decode(bytes.NewReader(masks[base+".png"]))
			if err != nil {
				t.Fatalf("%s: %v", base, err)
			}
			mask := decoded.(*image.Paletted)
			if mask.Bounds() != img.Bounds() {
				t.Errorf("%s: mask %v, picture %v", base, mask.Bounds(), img.Bounds())
			}
			var share [256]float64
			for _, index := range mask.Pix {
				share[index] += 1 / float64(len(mask.Pix))
			}
			if share[1+class] < 0.03 || share[0] < 0.25 {
				t.Errorf("%s: %.3f of the picture is of its class, %.3f background", base, share[1+class], share[0])
			}
			if known := sum(share[:1+len(ClassNames())]); known < 0.999 {
				t.Errorf("%s: %.3f of the mask has no class", base, 1-known)
			}
		}
	}
	if len(images) != 60 || len(masks) != 60 {
		t.Errorf("%d pictures, %d masks", len(images), len(masks))
	}
	if upright < 10 || lying < 10 {
		t.Errorf("%d upright, %d lying", upright, lying)
	}
}

func sum(values []float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

// Objects must be seen: across the mask's border, pictures change more than
// elsewhere.
func TestObjectsStandOut(t *testing.T) {
	images, masks := generate(t, Options{Images: 30, Seed: 3})
	var border, elsewhere, borders, others float64
	for name, data := range images {
		img, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		luma := img.(*image.YCbCr)
		decoded, err := png.Decode(bytes.NewReader(masks[name[:len(name)-3]+"png"]))
		if err != nil {
			t.Fatal(err)
		}
		mask := decoded.(*image.Paletted)
		for y := range mask.Rect.Dy() {
			for x := range mask.Rect.Dx() - 4 {
				a, b := luma.Y[luma.YOffset(x, y)], luma.Y[luma.YOffset(x+4, y)]
				step := max(float64(a)-float64(b), float64(b)-float64(a))
				if mask.ColorIndexAt(x, y) != mask.ColorIndexAt(x+4, y) {
					border, borders = border+step, borders+1
				} else {
					elsewhere, others = elsewhere+step, others+1
				}
			}
		}
	}
	if border/borders < 2*elsewhere/others {
		t.Errorf("mean step of %.1f levels across borders, %.1f elsewhere", border/borders, elsewhere/others)
	}
}

func TestProgress(t *testing.T) {
	var calls []int
	generate(t, Options{Images: 5, MinSide: 32, MaxSide: 40, Workers: 3, Listener: func(e event.Event) {
		done, total := e.(Progress).Done, e.(Progress).Total
		calls = append(calls, done, total) // no lock: calls never overlap
	}})
	if diff := cmp.Diff([]int{1, 5, 2, 5, 3, 5, 4, 5, 5, 5}, calls); diff != "" {
		t.Error(diff)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	err := Generate(ctx, filepath.Join(dir, "images"), Options{
		Images: 50, MinSide: 32, MaxSide: 40, MasksDir: filepath.Join(dir, "masks"),
		Listener: func(e event.Event) {
			done := e.(Progress).Done
			if done == 3 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if files := tree(t, dir); len(files) != 0 {
		t.Errorf("%d files left", len(files))
	}
}

func TestFolders(t *testing.T) {
	small := Options{Images: 1, Classes: 1, MinSide: 32, MaxSide: 32}
	dir := t.TempDir()
	// Empty, and with the remains of a killed run beside it.
	images := filepath.Join(dir, "images")
	for _, path := range []string{images, images + ".tmp", filepath.Join(images+".tmp", "old")} {
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := Generate(t.Context(), images, small); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(images, "old")); err == nil {
		t.Error("a killed run's files were taken over")
	}
	// Not empty any more.
	before := tree(t, dir)
	if err := Generate(t.Context(), images, small); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
	if !cmp.Equal(before, tree(t, dir)) {
		t.Error("a folder in use was changed")
	}
}

func TestValidate(t *testing.T) {
	if err := (Options{}).Validate(); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]Options{
		"images":        {Images: -1},
		"too many":      {Images: maxImages + 1},
		"classes":       {Classes: len(ClassNames()) + 1},
		"small":         {MinSide: 8},
		"large":         {MaxSide: 1 << 20},
		"sides swapped": {MinSide: 200, MaxSide: 100},
		"workers":       {Workers: -1},
	} {
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	dir := t.TempDir()
	for _, masks := range []string{"x", "x/masks", "."} {
		o := Options{Images: 1, MasksDir: filepath.Join(dir, masks)}
		if Generate(t.Context(), filepath.Join(dir, "x"), o) == nil {
			t.Errorf("masks in %s: no error", masks)
		}
	}
	if files := tree(t, dir); len(files) != 0 {
		t.Errorf("%d files left", len(files))
	}
}

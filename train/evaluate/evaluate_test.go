package evaluate

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
)

// cellsOfClasses makes maps of noise around a vector for each class, and masks
// of 8 x 8 pixels a cell.
func cellsOfClasses(rng *rand.Rand, images, side, channels, classes int) (*Features, []Mask) {
	means := rand.New(rand.NewPCG(1, 1))
	vectors := make([]float64, classes*channels)
	for i := range vectors {
		vectors[i] = 3 * means.NormFloat64()
	}
	f := &Features{Rows: side, Cols: side, Channels: channels}
	var masks []Mask
	const pixels = 8
	for range images {
		values := make([]float32, 0, side*side*channels)
		m := Mask{Width: side * pixels, Height: side * pixels, Classes: make([]uint8, side*side*pixels*pixels)}
		left, right := rng.IntN(classes), rng.IntN(classes)
		for y := range side {
			for x := range side {
				class := left
				if x >= side/2 {
					class = right
				}
				for c := range channels {
					values = append(values, float32(vectors[class*channels+c]+rng.NormFloat64()))
				}
				for py := range pixels {
					for px := range pixels {
						m.Classes[(y*pixels+py)*m.Width+x*pixels+px] = uint8(class)
					}
				}
			}
		}
		m.Classes[0] = Ignore
		f.Maps, masks = append(f.Maps, values), append(masks, m)
	}
	return f, masks
}

func TestProbesAndClustersFindWhatIsThere(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	const classes = 4
	trainSet, trainMasks := cellsOfClasses(rng, 60, 4, 12, classes)
	valSet, valMasks := cellsOfClasses(rng, 20, 4, 12, classes)
	for _, kind := range []string{LinearProbe, MLPProbe} {
		opts := DefaultProbe()
		opts.Kind, opts.Batch = kind, 8
		var first Scores
		for workers := 1; workers <= 3; workers += 2 {
			d := cpu.New(1)
			opts.Workers = workers
			s, err := Segment(t.Context(), d, trainSet, valSet, trainMasks, valMasks, classes, opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if s.MeanIoU < 0.85 {
				t.Errorf("%s probe: mIoU %.3f on classes that can be told apart", kind, s.MeanIoU)
			}
			if workers == 1 {
				first = s
			} else if diff := cmp.Diff(first, s); diff != "" {
				t.Errorf("%s probe depends on the number of goroutines:\n%s", kind, diff)
			}
		}
	}
	for _, k := range []int{classes, classes + 3} {
		s, err := Cluster(t.Context(), valSet, valMasks, classes, ClusterOptions{KMeansOptions: KMeansOptions{K: k, Restarts: 5, Workers: 2}, Normalize: true})
		if err != nil {
			t.Fatal(err)
		}
		if s.MeanIoU < 0.8 || len(s.ClassOf) != k {
			t.Errorf("%d clusters: mIoU %.3f, %d of them have a class", k, s.MeanIoU, len(s.ClassOf))
		}
	}
	if _, err := Cluster(t.Context(), valSet, valMasks, classes, ClusterOptions{KMeansOptions: KMeansOptions{K: 2}}); err == nil {
		t.Error("fewer clusters than classes are taken")
	}
}

// TestNoiseIsWorthNothing keeps the scores honest: features without any
// relation to the masks must not get far.
func TestNoiseIsWorthNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	trainSet, trainMasks := cellsOfClasses(rng, 40, 4, 6, 4)
	valSet, valMasks := cellsOfClasses(rng, 40, 4, 6, 4)
	for _, f := range []*Features{trainSet, valSet} {
		for _, m := range f.Maps {
			for i := range m {
				m[i] = float32(rng.NormFloat64())
			}
		}
	}
	d := cpu.New(1)
	defer d.Close()
	s, err := Segment(t.Context(), d, trainSet, valSet, trainMasks, valMasks, 4, DefaultProbe())
	if err != nil || s.Accuracy > 0.4 {
		t.Errorf("on noise the probe scores %+v (%v)", s, err)
	}
}

func TestKMeansIsTheSameForAnyNumberOfGoroutines(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	p := Points{make([]float32, 3*(2*chunkSize+17)), 3}
	for i := range p.Values {
		p.Values[i] = float32(rng.NormFloat64())
	}
	var first *Clusters
	for workers := 1; workers <= 4; workers++ {
		c, err := KMeans(t.Context(), p, KMeansOptions{K: 5, Restarts: 2, Iterations: 20, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = c
		} else if diff := cmp.Diff(first, c); diff != "" {
			t.Fatalf("with %d goroutines:\n%s", workers, diff)
		}
	}
}

func TestNeighborsLeaveThePointItselfOut(t *testing.T) {
	// Points 0 and 1 lie together with different classes, so do 2 and 3.
	p := Points{[]float32{1, 0, 1, 0.01, 0, 1, 0.01, 1}, 2}
	got, err := Neighbors(t.Context(), p, []int{0, 1, 2, 3}, nil, NeighborsOptions{K: 1, Temperature: 0.07, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 0, 3, 2}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Neighbors(t.Context(), p, []int{0, 1, 2, 3}, nil, NeighborsOptions{K: 4, Temperature: 1}); err == nil {
		t.Error("4 neighbours among 3 others are taken")
	}
}

// TestMatcher uses maps in which a cell's feature is its place in the image.
func TestMatcher(t *testing.T) {
	const side = 4
	whole := [4]float32{0, 0, 1, 1}
	places := func(shift int) []float32 {
		m := make([]float32, side*side*side*side)
		for i := range side * side {
			m[i*side*side+(i+shift)%(side*side)] = 1
		}
		return m
	}
	mask := &Mask{Width: 2, Height: 1, Classes: []uint8{0, 3}}
	for _, c := range []struct {
		name         string
		shift        int
		top1, within float64
	}{
		{"every cell finds its place", 0, 1, 1},
		// Cells of columns 0 to 2 find their neighbour; of column 3 those of the
		// other end of a line.
		{"every cell finds the cell before", 1, 0, 0.75},
	} {
		m := NewMatcher(side, side, side*side, 0.5)
		m.Add(View{places(0), whole}, View{places(c.shift), whole}, mask)
		s := m.Scores()
		if s.Pairs != 1 || s.Queries != side*side || s.Top1 != c.top1 || s.WithinOne != c.within || s.Chance != 1.0/(side*side) {
			t.Errorf("%s: %+v", c.name, s)
		}
		if s.Positive != c.top1 || s.Inside == nil || s.Across == nil || *s.Across > *s.Inside {
			t.Errorf("%s: similarities %+v", c.name, s)
		}
	}
	apart := NewMatcher(side, side, side*side, 0.5)
	apart.Add(View{places(0), [4]float32{0, 0, 0.2, 0.2}}, View{places(0), [4]float32{0.8, 0.8, 1, 1}}, nil)
	if s := apart.Scores(); s.Pairs != 0 || s.Queries != 0 || s.Top1 != 0 || s.Inside != nil {
		t.Errorf("views without a common cell score %+v", s)
	}
}

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
		t.Skip(err) // links need a privilege on Windows
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

// TestMapsAreThoseOfSingleImages compares what the extractor computes on
// several goroutines with an encoder's own maps, bit for bit.
func TestMapsAreThoseOfSingleImages(t *testing.T) {
	r, err := model.Lookup("resnet18", model.StemNoPool, 0.125)
	if err != nil {
		t.Fatal(err)
	}
	encoder := func() *train.Encoder {
		d := cpu.New(1)
		t.Cleanup(func() { d.Close() })
		return train.RandomEncoder(d, r, 5)
	}
	rng := rand.New(rand.NewPCG(2, 2))
	images := make([]augment.Planes, 7)
	for i := range images {
		images[i] = augment.NewPlanes(48, 48)
		for j := range images[i].Pix {
			images[i].Pix[j] = uint8(rng.UintN(256))
		}
	}
	single := encoder()
	for _, stage := range []int{3, 4} {
		x := NewExtractor([]*train.Encoder{encoder(), encoder(), encoder()}, stage)
		f, err := x.Run(t.Context(), len(images), func(_ *Loader, i int) (augment.Planes, error) { return images[i], nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range images {
			m, err := single.Features(images[i], stage)
			if err != nil {
				t.Fatal(err)
			}
			if side := 48 / 16 << (4 - stage); m.Rows != side || f.Cols != side || m.Channels != f.Channels {
				t.Fatalf("stage %d: %d x %d cells, the extractor's %d", stage, m.Rows, m.Cols, f.Cols)
			}
			if diff := cmp.Diff(m.Values, f.Maps[i]); diff != "" {
				t.Fatalf("stage %d, image %d:\n%s", stage, i, diff)
			}
		}
	}
	if _, err := single.Features(images[0], 5); err == nil {
		t.Error("stage 5 is taken")
	}
}

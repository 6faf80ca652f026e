package evaluate

import (
	"context"
	"errors"
	"math/rand/v2"
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
		var values []float32
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
		f.Values, masks = append(f.Values, values...), append(masks, m)
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
		for i := range f.Values {
			f.Values[i] = float32(rng.NormFloat64())
		}
	}
	d := cpu.New(1)
	defer d.Close()
	s, err := Segment(t.Context(), d, trainSet, valSet, trainMasks, valMasks, 4, DefaultProbe())
	if err != nil || s.Accuracy > 0.4 {
		t.Errorf("on noise the probe scores %+v (%v)", s, err)
	}
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
		x := NewExtractor([]*train.Encoder{encoder(), encoder(), encoder()}, stage, decode.Limits{})
		f, err := x.Run(t.Context(), len(images), func(_ *Loader, i int) (augment.Planes, error) { return images[i], nil }, func() {})
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
			if diff := cmp.Diff(m.Values, f.Map(i)); diff != "" {
				t.Fatalf("stage %d, image %d:\n%s", stage, i, diff)
			}
		}
	}
	if _, err := single.Features(images[0], 5); err == nil {
		t.Error("stage 5 is taken")
	}
}

func tinyExtractor(t *testing.T) *Extractor {
	t.Helper()
	r, err := model.Lookup("resnet18", model.StemSmall, 0.0625)
	if err != nil {
		t.Fatal(err)
	}
	d := cpu.New(1)
	t.Cleanup(func() { d.Close() })
	return NewExtractor([]*train.Encoder{train.RandomEncoder(d, r, 5)}, 4, decode.Limits{})
}

func TestExtractorStops(t *testing.T) {
	x := tinyExtractor(t)
	load := func(_ *Loader, i int) (augment.Planes, error) { return augment.NewPlanes(16+16*i, 16), nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := 0
	if _, err := x.Means(ctx, 10, load, func() { done++; cancel() }); !errors.Is(err, context.Canceled) || done != 1 {
		t.Errorf("cancelled after an image: %d done (%v)", done, err)
	}
	if _, err := NewExtractor(nil, 4, decode.Limits{}).Means(t.Context(), 2, load, func() {}); err == nil {
		t.Error("an extractor without encoders gives means")
	}
	if _, err := x.Run(t.Context(), 2, load, func() {}); err == nil {
		t.Error("maps of different sizes are taken")
	}
}

// TestMeansAreThoseOfMaps: what global average pooling gives.
func TestMeansAreThoseOfMaps(t *testing.T) {
	x := tinyExtractor(t)
	rng := rand.New(rand.NewPCG(2, 2))
	load := func(_ *Loader, i int) (augment.Planes, error) {
		p := augment.NewPlanes(32, 24)
		for j := range p.Pix {
			p.Pix[j] = uint8(i * int(rng.UintN(100)))
		}
		return p, nil
	}
	f, err := x.Run(t.Context(), 3, load, func() {})
	if err != nil {
		t.Fatal(err)
	}
	rng = rand.New(rand.NewPCG(2, 2))
	got, err := x.Means(t.Context(), 3, load, func() {})
	if err != nil {
		t.Fatal(err)
	}
	var want []float32
	for i := range 3 {
		for c := range f.Channels {
			sum := 0.0
			for cell := range f.Rows * f.Cols {
				sum += float64(f.Map(i)[cell*f.Channels+c])
			}
			want = append(want, float32(sum/float64(f.Rows*f.Cols)))
		}
	}
	if diff := cmp.Diff(Points{want, f.Channels}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

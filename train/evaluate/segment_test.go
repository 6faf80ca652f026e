package evaluate

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/train/device/cpu"
)

// TestProbeIsPyTorchs trains from the same weights as PyTorch did: standard
// scores, loss, momentum, weight decay and learning rates.
func TestProbeIsPyTorchs(t *testing.T) {
	for i, c := range golden(t).Probe {
		f := &Features{c.Rows, c.Cols, c.Channels, c.Features}
		masks := make([]Mask, f.Len())
		for j := range masks {
			masks[j] = Mask{Width: c.Cols * labelsPerCell, Height: c.Rows * labelsPerCell}
			n := masks[j].Width * masks[j].Height
			for _, v := range c.Truth[j*n : (j+1)*n] {
				masks[j].Classes = append(masks[j].Classes, uint8(v))
			}
		}
		opts := DefaultProbe()
		opts.Epochs, opts.Batch, opts.Rate, opts.Decay = c.Epochs, len(masks), c.Rate, c.Decay
		d := cpu.New(1)
		p := newProbe(d, c.Channels, c.Classes, opts)
		for k, values := range [][]float32{c.Weight, c.Bias} {
			if err := p.parameters[k].Load(d, values); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.train(t.Context(), f, masks, newStandard(f), opts); err != nil {
			t.Fatal(err)
		}
		for k, want := range [][]float32{c.TrainedWeight, c.TrainedBias} {
			got := make([]float32, len(want))
			d.Download(got, p.parameters[k].Value)
			if diff := cmp.Diff(want, got, near(1e-4)); diff != "" {
				t.Errorf("case %d, %s (-want +got):\n%s", i, p.parameters[k].Name, diff)
			}
		}
		p.free()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func segment(t *testing.T, trainSet, valSet *Features, trainMasks, valMasks []Mask, classes int, opts ProbeOptions) Scores {
	t.Helper()
	d := cpu.New(1)
	defer d.Close()
	s, err := Segment(t.Context(), d, trainSet, valSet, trainMasks, valMasks, classes, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestProbeIsMeasuredImageByImage: what is in other images must not change what
// one scores.
func TestProbeIsMeasuredImageByImage(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	trainSet, trainMasks := cellsOfClasses(rng, 12, 4, 3, 4)
	valSet, valMasks := cellsOfClasses(rng, 4, 4, 3, 4)
	alone := segment(t, trainSet, valSet, trainMasks, valMasks, 4, DefaultProbe())
	if alone.MeanIoU == 1 {
		t.Fatal("the case is too easy to show a difference")
	}
	other, otherMasks := cellsOfClasses(rng, 4, 4, 3, 4)
	for i := range other.Values {
		other.Values[i] = 1000 + 77*other.Values[i]
	}
	for _, m := range otherMasks {
		for i := range m.Classes {
			m.Classes[i] = Ignore
		}
	}
	valSet.Values = append(valSet.Values, other.Values...)
	if diff := cmp.Diff(alone, segment(t, trainSet, valSet, trainMasks, append(valMasks, otherMasks...), 4, DefaultProbe())); diff != "" {
		t.Errorf("beside other images (-alone +beside):\n%s", diff)
	}
}

// TestProbeSeesEveryImage also where images are not a multiple of the batch.
func TestProbeSeesEveryImage(t *testing.T) {
	for special := range 3 { // the image with class 1
		f := &Features{Rows: 2, Cols: 2, Channels: 1}
		var masks []Mask
		for i := range 3 {
			value, class := float32(-1), uint8(0)
			if i == special {
				value, class = 1, 1
			}
			f.Values = append(f.Values, slices.Repeat([]float32{value}, 4)...)
			masks = append(masks, Mask{2, 2, slices.Repeat([]uint8{class}, 4)})
		}
		opts := DefaultProbe()
		opts.Batch = 2
		if s := segment(t, f, f, masks, masks, 2, opts); s.MeanIoU != 1 {
			t.Errorf("class 1 in image %d of 3 with batches of 2: %+v", special, s)
		}
	}
}

// TestBatchesWithoutLabelsCountAsSteps, of gradient 0.
func TestBatchesWithoutLabelsCountAsSteps(t *testing.T) {
	f, masks := cellsOfClasses(rand.New(rand.NewPCG(3, 1)), 6, 2, 3, 2)
	for i := range 5 {
		masks[i].Classes = slices.Repeat([]uint8{Ignore}, len(masks[i].Classes))
	}
	opts := DefaultProbe()
	opts.Epochs, opts.Batch = 4, 1
	steps := 0
	opts.Listener = func(e Event) {
		done, total := int(e.(Progress).Done), int(e.(Progress).Total)
		steps++
		if done != steps || total != 24 {
			t.Errorf("step %d is told as %d of %d, want 24", steps, done, total)
		}
	}
	if s := segment(t, f, f, masks, masks, 2, opts); steps != 24 || math.IsNaN(s.MeanIoU) {
		t.Errorf("%d steps, want 24, end with %+v", steps, s)
	}
}

// TestProbeSeed is that of the weights, and of the order.
func TestProbeSeed(t *testing.T) {
	f, masks := cellsOfClasses(rand.New(rand.NewPCG(5, 5)), 20, 2, 3, 4)
	d := cpu.New(1)
	defer d.Close()
	values := func(p *probe) (all [][]float32) {
		for _, q := range p.parameters {
			all = append(all, q.Read(d))
		}
		return all
	}
	for _, kind := range []string{LinearProbe, MLPProbe} {
		opts := DefaultProbe()
		opts.Kind, opts.Epochs, opts.Batch, opts.Seed = kind, 2, 3, 1
		first := newProbe(d, f.Channels, 4, opts)
		start := values(first)
		train := func(seed uint64) [][]float32 {
			for i, q := range first.parameters {
				if err := q.Load(d, start[i]); err != nil {
					t.Fatal(err)
				}
			}
			opts := opts
			opts.Seed = seed
			if err := first.train(t.Context(), f, masks, newStandard(f), opts); err != nil {
				t.Fatal(err)
			}
			return values(first)
		}
		if a, b := train(1), train(1); !cmp.Equal(a, b) {
			t.Errorf("%s: the same seed trains otherwise", kind)
		}
		if a, b := train(1), train(2); cmp.Equal(a, b) {
			t.Errorf("%s: two seeds have one order", kind)
		}
		opts.Seed = 2
		if cmp.Equal(start, values(newProbe(d, f.Channels, 4, opts))) {
			t.Errorf("%s: two seeds have the same weights", kind)
		}
	}
}

// TestStandardLeavesDeadChannelsQuiet: one that hardly ever changes must not be
// as loud as the others, one that never does not be heard at all.
func TestStandardLeavesDeadChannelsQuiet(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	f := &Features{Rows: 10, Cols: 10, Channels: 5}
	for range 100 {
		f.Values = append(f.Values, float32(rng.NormFloat64()), float32(10*rng.NormFloat64()), float32(100*rng.NormFloat64()), 7, 0)
	}
	f.Values[4] = 1e-4 // else always 0
	scaled := make([]float32, len(f.Values))
	standard := newStandard(f)
	f.Values[3] = 8 // what training never had
	standard.apply(scaled, f.Values)
	var squares [5]float64
	for i, v := range scaled {
		squares[i%5] += float64(v) * float64(v)
	}
	for c, want := range []float64{1, 1, 1, 0, 0} {
		if got := math.Sqrt(squares[c] / 100 * 5); math.Abs(got-want) > 0.01 {
			t.Errorf("channel %d has deviation %g, want %g", c, got, want)
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	f, masks := cellsOfClasses(rand.New(rand.NewPCG(1, 1)), 4, 2, 3, 4)
	one := &Features{1, 1, 3, []float32{1, 2, 3}}
	small := []Mask{{1, 1, []uint8{0}}}
	nothing := Mask{Width: 64, Height: 64, Classes: slices.Repeat([]uint8{Ignore}, 64*64)}
	nothing.Classes[0] = 1 // between the places that are looked at
	mlp := DefaultProbe()
	mlp.Kind = MLPProbe
	d := cpu.New(1)
	defer d.Close()
	for _, c := range []struct {
		trainSet, valSet     *Features
		trainMasks, valMasks []Mask
		classes              int
		opts                 ProbeOptions
		want                 string
	}{
		{f, f, masks, masks, 2, DefaultProbe(), "of 2 classes"},
		{f, f, masks, masks, 0, DefaultProbe(), "0 classes"},
		{f, f, masks, masks, 300, DefaultProbe(), "300 classes"},
		{f, f, masks[:3], masks, 4, DefaultProbe(), "3 masks"},
		{f, f, masks, masks[:3], 4, DefaultProbe(), "3 masks"},
		{f, &Features{2, 2, 4, make([]float32, 16)}, masks, masks[:1], 4, DefaultProbe(), "3 channels"},
		{&Features{}, f, nil, masks, 4, DefaultProbe(), "channels"},
		{f, f, slices.Repeat([]Mask{nothing}, 4), masks, 4, DefaultProbe(), "4 x 4 a cell"},
		{one, f, []Mask{{2, 2, []uint8{0}}}, masks, 4, DefaultProbe(), "2 x 2 pixels has 1 values"},
		{one, f, []Mask{{}}, masks, 4, DefaultProbe(), "0 x 0 pixels"},
		{&Features{1, 1, 3, []float32{1, 2, float32(math.NaN())}}, f, small, masks, 4, DefaultProbe(), "NaN"},
		{one, f, small, masks, 4, mlp, "more than one cell"},
	} {
		if _, err := Segment(t.Context(), d, c.trainSet, c.valSet, c.trainMasks, c.valMasks, c.classes, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
	if _, err := Cluster(t.Context(), f, masks, 2, ClusterOptions{KMeansOptions: KMeansOptions{K: 4}}); err == nil {
		t.Error("Cluster takes masks of classes that there are not")
	}
}

package train

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
)

func testEngine(tb testing.TB, d device.Device, encoder model.ResNet, hidden int) *engine {
	tb.Helper()
	o := DefaultOptions()
	o.HeadHidden = hidden
	e, err := newEngineOf(d, encoder, &o)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// someViews are views without meaning whose crops overlap.
func someViews(pairs, size int) views {
	v := views{pairs: pairs, size: size, normalization: pipeline.ImageNet()}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range v.pixels {
		v.pixels[i] = make([]uint8, pairs*3*size*size)
		for p := range v.pixels[i] {
			v.pixels[i][p] = uint8(rng.Uint32())
		}
		for range pairs {
			v.coords[i] = append(v.coords[i], 0.2*float32(i), 0, 0.8, 0.8)
		}
	}
	return v
}

// countingDevice counts the tensors that are not free.
type countingDevice struct {
	device.Device
	live int
}

func (d *countingDevice) AllocActivation(shape ...int) device.Tensor { return d.Alloc(shape...) }

func (d *countingDevice) Alloc(shape ...int) device.Tensor {
	d.live++
	return d.Device.Alloc(shape...)
}

func (d *countingDevice) Free(t device.Tensor) {
	d.live--
	d.Device.Free(t)
}

func TestStepLeavesNoTensorBehind(t *testing.T) {
	for _, bottleneck := range []bool{false, true} {
		d := &countingDevice{Device: cpu.New(2)}
		e := testEngine(t, d, model.ResNet{Depths: [4]int{1, 2, 1, 1}, Bottleneck: bottleneck, Base: 4, Stem: model.StemImageNet}, 8)
		before := d.live
		e.begin(0.99)
		e.add(someViews(2, 64), 1, false)
		e.update(0.1)
		if d.live != before {
			t.Errorf("bottleneck %v: %d tensors before the step, %d after it", bottleneck, before, d.live)
		}
	}
}

// TestStepsRepeatBitForBit runs the same steps twice on several threads.
func TestStepsRepeatBitForBit(t *testing.T) {
	v := someViews(3, 64)
	var want []float64
	for range 2 {
		e := testEngine(t, cpu.New(3), model.ResNet{Depths: [4]int{1, 1, 1, 1}, Base: 8, Stem: model.StemNoPool}, 16)
		var losses []float64
		for range 3 {
			e.begin(0.99)
			losses = append(losses, e.add(v, 1, false).Loss)
			e.update(0.5)
		}
		if want == nil {
			want = losses
		}
		if !slices.Equal(want, losses) {
			t.Errorf("losses are %v, then %v", want, losses)
		}
	}
}

// BenchmarkStep times whole training steps.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		arch, stem  string
		width       float64
		size, pairs int
	}{
		{"resnet18", model.StemImageNet, 1, 96, 16},
		{"resnet18", model.StemNoPool, 0.5, 96, 16},
		{"resnet50", model.StemImageNet, 1, 224, 8},
	} {
		b.Run(fmt.Sprintf("%s,%s,%g/%dpx", c.arch, c.stem, c.width, c.size), func(b *testing.B) {
			encoder, err := model.Lookup(c.arch, c.stem, c.width)
			if err != nil {
				b.Fatal(err)
			}
			e := testEngine(b, cpu.New(0), encoder, 4096)
			v := someViews(c.pairs, c.size)
			for b.Loop() {
				e.begin(0.99)
				e.add(v, 1, false)
				e.update(0.1)
			}
			b.ReportMetric(float64(c.pairs*b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

// TestAccumulatedGradientsAreTheMean adds a batch in two halves whose batch
// norms see the same images, and compares with the batch once.
func TestAccumulatedGradientsAreTheMean(t *testing.T) {
	v := someViews(2, 64)
	var want [][]float32
	for _, times := range []int{1, 2} {
		d := cpu.New(2)
		e := testEngine(t, d, model.ResNet{Depths: [4]int{1, 1, 1, 1}, Base: 4, Stem: model.StemNoPool}, 8)
		e.begin(1)
		var loss float64
		for range times {
			loss += e.add(v, 1/float64(times), false).Loss
		}
		got := [][]float32{{float32(loss)}}
		for _, p := range e.model.Trained() {
			got = append(got, p.ReadLike(d, p.Grad))
		}
		if times == 1 {
			want = got
			continue
		}
		for i := range want {
			diff := make([]float32, len(want[i]))
			for j := range diff {
				diff[j] = got[i][j] - want[i][j]
			}
			if length(diff) > 1e-5*length(want[i])+1e-9 {
				t.Errorf("tensor %d is off by %g of %g", i, length(diff), length(want[i]))
			}
		}
	}
}

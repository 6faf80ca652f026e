package train

import (
	"math"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/optim"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// goldenRun describes a reference training run.
type goldenRun struct {
	Depths      [4]int  `json:"depths"`
	Bottleneck  bool    `json:"bottleneck"`
	Method      string  `json:"method"`
	Instance    float64 `json:"instance"`
	BaseWidth   int     `json:"base_width"`
	Hidden      int     `json:"hidden"`
	Dim         int     `json:"dim"`
	Gamma       float64 `json:"gamma"`
	Threshold   float64 `json:"threshold"`
	Tau         float64 `json:"tau"`
	KeyMomentum float64 `json:"key_momentum"`
	TotalSteps  int64   `json:"total_steps"`
	Optimizer   struct {
		Name        string  `json:"name"`
		WeightDecay float64 `json:"weight_decay"`
		Momentum    float64 `json:"momentum"`
	} `json:"optimizer"`
	Tolerance struct {
		Loss     []float64 `json:"loss"`
		GradNorm float64   `json:"grad_norm_step0"`
		Final    float64   `json:"final"`
	} `json:"tolerance"`
	Steps []struct {
		Loss         float64            `json:"loss"`
		LearningRate float64            `json:"learning_rate"`
		KeyMomentum  float64            `json:"key_momentum"`
		GradNorm     map[string]float64 `json:"grad_norm"`
	} `json:"steps"`
}

// goldenRuns are the reference runs.
var goldenRuns = []string{"basic_pixpro", "basic_pixcontrast", "bottleneck_pixpro", "basic_pixpro_instance"}

// TestGoldenRuns replays whole training runs from the same initial parameters
// and views, and compares losses, gradients and the final state.
func TestGoldenRuns(t *testing.T) {
	for _, name := range goldenRuns {
		t.Run(name, func(t *testing.T) { replay(t, name, cpu.New(2)) })
	}
}

func replay(t *testing.T, name string, d device.Device) {
	var r goldenRun
	golden.JSON(t, &r, "train", name+".json")
	initial, data, final := goldenTensors(t, name+".init"), goldenTensors(t, name+".data"), goldenTensors(t, name+".final")

	o := DefaultOptions()
	o.Method, o.HeadHidden, o.HeadDim, o.PixProPositiveRatio = r.Method, r.Hidden, r.Dim, r.Threshold
	o.Optimizer, o.Momentum, o.WeightDecay = r.Optimizer.Name, r.Optimizer.Momentum, r.Optimizer.WeightDecay
	method.Options[*method.PixPro](&o).Gamma = r.Gamma
	method.Options[*method.PixContrast](&o).Temperature = r.Tau
	if r.Instance > 0 {
		*method.Options[*method.Instance](&o) = method.Instance{Branch: method.BYOL, Weight: r.Instance, Temperature: 1}
	}
	e, err := newEngineOf(d, model.ResNet{Depths: r.Depths, Bottleneck: r.Bottleneck, Base: r.BaseWidth, Stem: model.StemImageNet}, &o)
	if err != nil {
		t.Fatal(err)
	}
	m := e.model
	if err := m.Load(initial.Tensor); err != nil {
		t.Fatal(err)
	}
	// The reference's schedule: 2 steps an epoch, 10 epochs, 1 of warm-up.
	schedule := optim.Schedule{Base: 1, StepsPerEpoch: 2, Epochs: 10, WarmupEpochs: 1}

	for s, want := range r.Steps {
		rate, momentum := schedule.LearningRate(int64(s)), optim.KeyMomentum(r.KeyMomentum, int64(s), r.TotalSteps)
		near(t, "learning rate", rate, want.LearningRate, 1e-6)
		near(t, "key momentum", momentum, want.KeyMomentum, 1e-6)
		e.begin(momentum)
		loss := e.add(goldenViews(t, data, s), 1, false).Loss
		near(t, "loss", loss, want.Loss, r.Tolerance.Loss[s])
		if s == 0 {
			for _, p := range m.Trained() {
				norm, ok := want.GradNorm[p.Name]
				if !ok {
					t.Errorf("no reference gradient for %s", p.Name)
				}
				near(t, "gradient of "+p.Name, length(p.ReadLike(d, p.Grad)), norm, r.Tolerance.GradNorm)
			}
		}
		e.update(rate)
	}
	for _, p := range m.Parameters() {
		want := goldenFloats(t, final, p.Name)
		diff := p.Read(d)
		for i := range diff {
			diff[i] -= want[i]
		}
		if got := length(diff) / max(length(want), 1e-3); got > r.Tolerance.Final {
			t.Errorf("%s is off by %.2g after the run, tolerance %.2g", p.Name, got, r.Tolerance.Final)
		}
	}
	if len(m.Parameters()) != len(final.Names()) {
		t.Errorf("%d parameters, the reference has %d", len(m.Parameters()), len(final.Names()))
	}
}

// TestGoldenSchedules compares every value of the schedules.
func TestGoldenSchedules(t *testing.T) {
	var want struct {
		LearningRate struct {
			Base          float64   `json:"base"`
			StepsPerEpoch int64     `json:"steps_per_epoch"`
			Epochs        int       `json:"epochs"`
			WarmupEpochs  int       `json:"warmup_epochs"`
			Values        []float64 `json:"values"`
		} `json:"learning_rate"`
		KeyMomentum struct {
			Momentum   float64   `json:"momentum"`
			TotalSteps int64     `json:"total_steps"`
			Values     []float64 `json:"values"`
		} `json:"key_momentum"`
	}
	golden.JSON(t, &want, "train", "schedules.json")
	lr, km := want.LearningRate, want.KeyMomentum
	if len(lr.Values) == 0 || len(km.Values) == 0 {
		t.Fatal("no values in schedules.json")
	}
	schedule := optim.Schedule{Base: lr.Base, StepsPerEpoch: lr.StepsPerEpoch, Epochs: lr.Epochs, WarmupEpochs: lr.WarmupEpochs}
	for i, v := range lr.Values {
		near(t, "learning rate", schedule.LearningRate(int64(i)), v, 1e-6)
	}
	for i, v := range km.Values {
		near(t, "key momentum", optim.KeyMomentum(km.Momentum, int64(i), km.TotalSteps), v, 1e-6)
	}
}

// near checks a relative error; the denominator is at least 1e-3, as the
// reference's tolerances were measured.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if diff := math.Abs(got-want) / max(math.Abs(want), 1e-3); !(diff <= tolerance) {
		t.Errorf("%s is %.9g, want %.9g: off by %.2g, tolerance %.2g", what, got, want, diff, tolerance)
	}
}

func length(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

func goldenTensors(t *testing.T, name string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Read(golden.Path(t, "train", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func goldenFloats(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("golden tensor %s is missing", name)
	}
	v, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// goldenViews reads a step's batch; the reference has pixels last to channels.
func goldenViews(t *testing.T, data *safetensors.File, step int) views {
	t.Helper()
	v := views{normalization: pipeline.ImageNet()}
	for i, name := range []string{"1", "2"} {
		prefix := "step" + string(rune('0'+step))
		pixels, ok := data.Tensor(prefix + ".view" + name)
		if !ok {
			t.Fatalf("step %d has no view %s", step, name)
		}
		v.pairs, v.size = pixels.Shape[0], pixels.Shape[1]
		area := v.size * v.size
		v.pixels[i] = make([]uint8, len(pixels.Data))
		for at, value := range pixels.Data {
			image, pixel, channel := at/(3*area), at/3%area, at%3
			v.pixels[i][(image*3+channel)*area+pixel] = value
		}
		v.coords[i] = goldenFloats(t, data, prefix+".coord"+name)
	}
	return v
}

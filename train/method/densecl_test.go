package method_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/device/cuda"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/optim"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// denseCL is a small model of the method.
func denseCL(t *testing.T, d device.Device, base, hidden, dim int, c method.DenseCL) *method.Model {
	t.Helper()
	o := options.Default()
	o.Method, o.HeadHidden, o.HeadDim, o.Seed = "densecl", hidden, dim, 3
	*method.Options[*method.DenseCL](&o) = c
	m, err := method.New(d, model.ResNet{Depths: [4]int{1, 1, 1, 1}, Base: base, Stem: model.StemNoPool}, &o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// views are normalised images as a model's Loss takes them.
func views(d device.Device, pairs, side int, pixels [2][]uint8) device.Tensor {
	images := d.AllocActivation(2*pairs, side, side, 3)
	d.UploadViews(images, pixels, pipeline.ImageNet().Mean, pipeline.ImageNet().Std)
	return images
}

func values(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	v, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func length(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// TestDenseCLGolden replays the run of testdata/make_densecl.py: losses,
// gradients, and all that a checkpoint would hold, the queues included.
func TestDenseCLGolden(t *testing.T) { denseCLGolden(t, cpu.New(2)) }

func TestDenseCLGoldenOnCUDA(t *testing.T) {
	d, err := device.Open("cuda", device.Config{})
	if errors.Is(err, cuda.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	denseCLGolden(t, d)
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Error(err)
	}
}

func denseCLGolden(t *testing.T, d device.Device) {
	t.Helper()
	var r struct {
		BaseWidth  int     `json:"base_width"`
		Hidden     int     `json:"hidden"`
		Dim        int     `json:"dim"`
		Queue      int     `json:"queue"`
		Tau        float64 `json:"tau"`
		Weight     float64 `json:"weight"`
		TotalSteps int64   `json:"total_steps"`
		Momentum   float64 `json:"momentum"`
		SGD        struct {
			Rate        float64 `json:"rate"`
			Momentum    float64 `json:"momentum"`
			WeightDecay float64 `json:"weight_decay"`
		} `json:"sgd"`
		Tolerance struct {
			Loss     []float64 `json:"loss"`
			GradNorm float64   `json:"grad_norm"`
			Final    float64   `json:"final"`
		} `json:"tolerance"`
		Steps []struct {
			Loss        float64            `json:"loss"`
			KeyMomentum float64            `json:"key_momentum"`
			GradNorm    map[string]float64 `json:"grad_norm"`
		} `json:"steps"`
	}
	text, err := os.ReadFile("testdata/densecl.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	files := map[string]*safetensors.File{}
	for _, name := range []string{"init", "data", "final"} {
		if files[name], err = safetensors.Read("testdata/densecl." + name + ".safetensors"); err != nil {
			t.Fatal(err)
		}
	}
	m := denseCL(t, d, r.BaseWidth, r.Hidden, r.Dim, method.DenseCL{Queue: r.Queue, Temperature: r.Tau, Weight: r.Weight})
	if err := m.Load(files["init"].Tensor); err != nil {
		t.Fatal(err)
	}
	optimizer := optim.New(d, m.Trained(), optim.Config{Kind: optim.SGD, Momentum: r.SGD.Momentum, WeightDecay: r.SGD.WeightDecay})
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if off := math.Abs(got-want) / max(math.Abs(want), 1e-3); !(off <= tolerance) {
			t.Errorf("%s is %.9g, want %.9g: off by %.2g, tolerance %.2g", what, got, want, off, tolerance)
		}
	}
	if len(r.Steps) == 0 {
		t.Fatal("no steps")
	}
	for s, want := range r.Steps {
		momentum := optim.KeyMomentum(r.Momentum, int64(s), r.TotalSteps)
		near("key momentum", momentum, want.KeyMomentum, 1e-6)
		m.ZeroGradients()
		m.UpdateKeys(momentum)
		var pixels [2][]uint8
		var pairs, side int
		for i, view := range []string{".view1", ".view2"} {
			tensor, ok := files["data"].Tensor("step" + string(rune('0'+s)) + view)
			if !ok {
				t.Fatalf("step %d has no %s", s, view)
			}
			pixels[i], pairs, side = tensor.Data, tensor.Shape[0], tensor.Shape[2]
		}
		near("loss", m.Loss(views(d, pairs, side, pixels), device.Tensor{}, 1, false).Loss, want.Loss, r.Tolerance.Loss[s])
		for _, p := range m.Trained() {
			norm, ok := want.GradNorm[p.Name]
			if !ok {
				t.Errorf("no reference gradient for %s", p.Name)
			}
			if s == 0 {
				near("gradient of "+p.Name, length(p.ReadLike(d, p.Grad)), norm, r.Tolerance.GradNorm)
			}
		}
		optimizer.Step(r.SGD.Rate)
	}
	if len(m.Parameters()) != len(files["final"].Names()) {
		t.Errorf("%d parameters, the reference has %d", len(m.Parameters()), len(files["final"].Names()))
	}
	for _, p := range m.Parameters() {
		want := values(t, files["final"], p.Name)
		diff := p.Read(d)
		for i := range diff {
			diff[i] -= want[i]
		}
		if off := length(diff) / max(length(want), 1e-3); !(off <= r.Tolerance.Final) {
			t.Errorf("%s is off by %.2g after the run, tolerance %.2g", p.Name, off, r.Tolerance.Final)
		}
	}
}

// TestDenseCLGradient compares the gradients of each part of the query branch,
// along a random direction, with differences of the loss. Where the encoder
// moves, maps have one cell: among several the matches would jump.
func TestDenseCLGradient(t *testing.T) {
	denseCLGradient(t, 48, 1.0/2048, "projector.", "projector_instance.")
	denseCLGradient(t, 16, 1.0/32768, "encoder.")
}

func denseCLGradient(t *testing.T, side int, step float64, parts ...string) {
	const pairs = 8
	d := cpu.New(2)
	m := denseCL(t, d, 4, 8, 6, method.DenseCL{Queue: 16, Temperature: 0.5, Weight: 0.3})
	rng := rand.New(rand.NewPCG(5, 8))
	var pixels [2][]uint8
	for i := range pixels {
		for range pairs * 3 * side * side {
			pixels[i] = append(pixels[i], uint8(rng.Uint32()))
		}
	}
	start := map[string][]float32{}
	for _, p := range m.Parameters() {
		start[p.Name] = p.Read(d)
	}
	// loss is that of parameters moved along a direction, with the queues as
	// they were.
	loss := func(direction map[string][]float32, by float64) float64 {
		for _, p := range m.Parameters() {
			moved := slices.Clone(start[p.Name])
			for i, v := range direction[p.Name] {
				moved[i] += float32(by * float64(v))
			}
			if err := p.Load(d, moved); err != nil {
				t.Fatal(err)
			}
		}
		return m.Loss(views(d, pairs, side, pixels), device.Tensor{}, 1, false).Loss
	}
	m.ZeroGradients()
	loss(nil, 0)
	grads := map[string][]float32{}
	for _, p := range m.Trained() {
		grads[p.Name] = p.ReadLike(d, p.Grad)
	}
	for _, part := range parts {
		direction, want := map[string][]float32{}, 0.0
		for _, p := range m.Trained() {
			if strings.HasPrefix(p.Name, part) {
				size := length(grads[p.Name])
				for _, g := range grads[p.Name] {
					v := float64(g)/size + 0.3*rng.NormFloat64()/math.Sqrt(float64(len(grads[p.Name])))
					direction[p.Name] = append(direction[p.Name], float32(v))
					want += float64(g) * v
				}
			}
		}
		got := (loss(direction, step) - loss(direction, -step)) / (2 * step)
		if math.Abs(got-want) > 0.01*math.Abs(want) || want == 0 {
			t.Errorf("views of %d pixels: the loss grows by %g along a direction of %s…, its gradient says %g", side, got, part, want)
		}
	}
}

// TestDenseCLQueue follows where keys go: behind those of the batch before, over
// the end to the front, and all of a queue at once.
func TestDenseCLQueue(t *testing.T) {
	const pairs, side, size = 2, 32, 10
	d := cpu.New(1)
	m := denseCL(t, d, 4, 8, 6, method.DenseCL{Queue: size, Temperature: 0.2, Weight: 0.5})
	read := func(name string) []float32 {
		for _, p := range m.Parameters() {
			if p.Name == name {
				return p.Read(d)
			}
		}
		t.Fatalf("no %s", name)
		return nil
	}
	pixels := [2][]uint8{make([]uint8, pairs*3*side*side), make([]uint8, pairs*3*side*side)}
	for step := range 4 {
		for i := range pixels[0] {
			pixels[0][i], pixels[1][i] = uint8(i*(step+1)), uint8(i*i+step)
		}
		before := [2][]float32{read("queue"), read("queue2")}
		m.Loss(views(d, pairs, side, pixels), device.Tensor{}, 1, false)
		if got, want := read("queue_ptr")[0], float32((step+1)*2*pairs%size); got != want {
			t.Errorf("after step %d the position is %g, want %g", step, got, want)
		}
		for which, name := range []string{"queue", "queue2"} {
			after := read(name)
			for row := range size {
				was, is := before[which][row*6:][:6], after[row*6:][:6]
				if n := length(is); math.Abs(n-1) > 1e-5 {
					t.Errorf("step %d: row %d of %s has length %g", step, row, name, n)
				}
				written := (row-step*2*pairs%size+size)%size < 2*pairs
				if written == slices.Equal(was, is) {
					t.Errorf("step %d: row %d of %s was written: %v, want %v", step, row, name, !written, written)
				}
			}
		}
	}
}

// TestDenseCLResumes stops a run whose queue does not hold a whole number of
// batches, and goes on: the unbroken run's losses, and files to the byte.
func TestDenseCLResumes(t *testing.T) {
	dir := t.TempDir()
	images, data := filepath.Join(dir, "images"), filepath.Join(dir, "shards")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 12, MinSide: 40, MaxSide: 48}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shards.Write(t.Context(), shards.WriteConfig{In: images, Out: data}); err != nil {
		t.Fatal(err)
	}
	run := func(output, resume string, stop int) error {
		o := train.DefaultOptions()
		o.Shards, o.Output, o.Resume = data, output, resume
		o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", model.StemSmall, 0.0625, 8, 4
		o.Size, o.BatchSize, o.Epochs, o.WarmupEpochs, o.Threads = 32, 4, 3, 1, 2
		o.Method = "densecl"
		method.Options[*method.DenseCL](&o).Queue = 21
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := train.Run(ctx, o, func(e train.Event) {
			if _, ok := e.(train.StepDone); ok {
				if stop--; stop == 0 {
					cancel()
				}
			}
		})
		return err
	}
	outcome := func(output string) (losses []float64, files map[string]checkpoint.Digest, c *checkpoint.Checkpoint) {
		metrics, err := train.ReadMetrics(output)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range metrics {
			losses = append(losses, m.Loss)
		}
		if c, err = checkpoint.Open(output); err != nil {
			t.Fatal(err)
		}
		delete(c.State.Files, checkpoint.ConfigFile) // names the output folder
		return losses, c.State.Files, c
	}
	whole, broken := filepath.Join(dir, "whole"), filepath.Join(dir, "broken")
	if err := run(whole, "", 0); err != nil {
		t.Fatal(err)
	}
	wantLosses, wantFiles, c := outcome(whole)
	f, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	if at := values(t, f, "queue_ptr")[0]; len(wantLosses) != 9 || at != 9*8%21 {
		t.Fatalf("%d steps, which leave the queues at %g", len(wantLosses), at)
	}
	for i, stop := range []int{2, 4} {
		resume := ""
		if i > 0 {
			resume = options.Auto
		}
		if err := run(broken, resume, stop); !errors.Is(err, context.Canceled) {
			t.Fatalf("a run that is stopped returns %v", err)
		}
	}
	if err := run(broken, options.Auto, 0); err != nil {
		t.Fatal(err)
	}
	losses, gotFiles, _ := outcome(broken)
	if diff := cmp.Diff(wantLosses, losses); diff != "" {
		t.Errorf("losses (-unbroken +resumed):\n%s", diff)
	}
	if diff := cmp.Diff(wantFiles, gotFiles); diff != "" {
		t.Errorf("checkpoint (-unbroken +resumed):\n%s", diff)
	}
}

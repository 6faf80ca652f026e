package train

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// TestFeaturesThatAreNotFinite has a running variance that a damaged file could
// have.
func TestFeaturesThatAreNotFinite(t *testing.T) {
	r, err := model.Lookup("resnet18", model.StemNoPool, 0.0625)
	if err != nil {
		t.Fatal(err)
	}
	d := cpu.New(1)
	defer d.Close()
	var parameters []*nn.Parameter
	model.NewEncoder(nn.Builder{Device: d, List: &parameters}, r)
	for _, damage := range []float32{0, float32(math.NaN())} {
		var tensors []safetensors.Tensor
		for _, p := range parameters {
			values := p.Read(d)
			if p.Name == "layer4.1.bn2.running_var" {
				values[0] += damage
			}
			tensors = append(tensors, safetensors.New(p.Name, p.Shape, values))
		}
		e, err := NewEncoder(d, r, tensors)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Features(augment.NewPlanes(32, 32), model.Stages)
		if damaged := damage != 0; damaged != (err != nil) || damaged && !strings.Contains(err.Error(), "NaN") {
			t.Errorf("with %v in the statistics: %v", damage, err)
		}
	}
}

// TestRandomEncoderIsARunsFirst compares it with the encoder of a run that has
// not made a step.
func TestRandomEncoderIsARunsFirst(t *testing.T) {
	cfg := tiny("", t.TempDir())
	cfg.Seed = 6
	d := cpu.New(1)
	defer d.Close()
	run, err := New(d, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := model.Lookup(cfg.Arch, cfg.Stem, cfg.Width)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []safetensors.Tensor
	for _, p := range run.Model().Parameters() {
		if name, ok := strings.CutPrefix(p.Name, queryEncoder); ok {
			tensors = append(tensors, safetensors.New(name, p.Shape, p.Read(d)))
		}
	}
	first, err := NewEncoder(d, r, tensors)
	if err != nil {
		t.Fatal(err)
	}
	image := augment.NewPlanes(32, 32)
	for i := range image.Pix {
		image.Pix[i] = uint8(i * i)
	}
	features := func(e *Encoder) []float32 {
		m, err := e.Features(image, model.Stages)
		if err != nil {
			t.Fatal(err)
		}
		return m.Values
	}
	want := features(first)
	if !slices.Equal(want, features(RandomEncoder(d, r, 6))) {
		t.Error("the same seed gives other features than the run's")
	}
	if slices.Equal(want, features(RandomEncoder(d, r, 7))) {
		t.Error("another seed gives the same features")
	}
}

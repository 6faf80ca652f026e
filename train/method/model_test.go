package method

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

func small(t *testing.T, method string) *Model {
	t.Helper()
	o := options.Default()
	o.Method, o.HeadHidden, o.HeadDim, o.Seed = method, 8, 4, 5
	Options[*PixPro](&o).TransformLayers = 2
	Options[*Instance](&o).Branch = BYOL
	m, err := New(cpu.New(2), model.ResNet{Depths: [4]int{1, 1, 1, 1}, Base: 4, Stem: model.StemImageNet}, &o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestParametersAreInTheOrderOfCheckpoints holds the order of the parts, which
// decides the bytes of checkpoints.
func TestParametersAreInTheOrderOfCheckpoints(t *testing.T) {
	var parts []string
	for _, p := range small(t, "pixpro").Parameters() {
		if part, _, _ := strings.Cut(p.Name, "."); len(parts) == 0 || parts[len(parts)-1] != part {
			parts = append(parts, part)
		}
	}
	want := []string{"encoder", "projector", "projector_instance", "value_transform", "predictor", "encoder_k", "projector_k", "projector_instance_k"}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

func TestUnknownMethod(t *testing.T) {
	o := options.Default()
	o.Method = "nosuch"
	if _, err := New(cpu.New(1), model.ResNet{Depths: [4]int{1, 1, 1, 1}, Base: 4, Stem: model.StemImageNet}, &o); err == nil || !strings.Contains(err.Error(), "option method nosuch: use ") {
		t.Errorf("an unknown method gives %v", err)
	}
}

func TestKeysStartAsCopiesAndMoveByMomentum(t *testing.T) {
	m := small(t, "pixpro")
	for _, pair := range m.pairs {
		key, query := pair[0].Read(m.device), pair[1].Read(m.device)
		if !slices.Equal(key, query) {
			t.Fatalf("%s does not start as a copy of %s", pair[0].Name, pair[1].Name)
		}
		for i := range query {
			query[i] += 1
		}
		if err := pair[1].Load(m.device, query); err != nil {
			t.Fatal(err)
		}
	}
	m.UpdateKeys(0.75)
	for _, pair := range m.pairs {
		key, query := pair[0].Read(m.device), pair[1].Read(m.device)
		for i := range key {
			if diff := query[i] - key[i]; diff < 0.7499 || diff > 0.7501 {
				t.Fatalf("%s[%d] is %g behind the query, want 0.75", pair[0].Name, i, diff)
			}
		}
	}
}

func TestInitialParametersDependOnSeedAndNameAlone(t *testing.T) {
	a, b := small(t, "pixpro"), small(t, "pixcontrast")
	values := map[string][]float32{}
	for _, p := range a.Parameters() {
		values[p.Name] = p.Read(a.device)
	}
	for _, p := range b.Parameters() {
		if !slices.Equal(values[p.Name], p.Read(b.device)) {
			t.Errorf("%s differs between two models of one seed", p.Name)
		}
	}
}

func TestLoadNamesWhatDoesNotFit(t *testing.T) {
	m := small(t, "pixcontrast")
	err := m.Load(func(string) (t safetensors.Tensor, ok bool) { return t, ok })
	if err == nil || err.Error() != "parameters do not fit the model: encoder.conv1.weight is missing" {
		t.Errorf("a missing parameter gives %v", err)
	}
	err = m.Load(func(name string) (safetensors.Tensor, bool) {
		return safetensors.New(name, []int{3}, make([]float32, 3)), true
	})
	if err == nil || err.Error() != "parameters do not fit the model: encoder.conv1.weight is [3], the model's is [4 3 7 7]" {
		t.Errorf("a parameter of another shape gives %v", err)
	}
}

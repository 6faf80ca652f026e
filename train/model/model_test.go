package model

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// TestEncoderNamesAreTorchvisions compares the names and shapes of every
// architecture's parameters.
func TestEncoderNamesAreTorchvisions(t *testing.T) {
	var want map[string]map[string][]int
	golden.JSON(t, &want, "train", "torchvision_names.json")
	for arch := range architectures {
		t.Run(arch, func(t *testing.T) {
			r, err := Lookup(arch, StemImageNet, 1)
			if err != nil {
				t.Fatal(err)
			}
			var list []*nn.Parameter
			NewEncoder(nn.Builder{Device: shapesOnly{cpu.New(1)}, List: &list}, r)
			got := map[string][]int{}
			for _, p := range list {
				got[p.Name] = p.Shape
			}
			if diff := cmp.Diff(want[arch], got); diff != "" {
				t.Errorf("parameters (-torchvision +ours):\n%s", diff)
			}
		})
	}
}

// shapesOnly spares the time and memory of parameters whose values nobody reads.
type shapesOnly struct{ device.Device }

func (d shapesOnly) Upload(device.Tensor, []float32) {}

func TestStemsDecideTheSizeOfCells(t *testing.T) {
	for _, c := range []struct {
		stem  string
		cells int
	}{{StemImageNet, 2}, {StemNoPool, 4}, {StemSmall, 8}} {
		r, err := Lookup("resnet18", c.stem, 0.125)
		if err != nil {
			t.Fatal(err)
		}
		d := cpu.New(2)
		var list []*nn.Parameter
		e := NewEncoder(nn.Builder{Device: d, List: &list}, r)
		tape := nn.NewTape(d, nn.Inference, 1)
		x := d.Alloc(1, 64, 64, 3)
		d.Zero(x)
		got := e.Forward(tape, tape.Input(x)).Value.Shape
		if want := []int{1, c.cells, c.cells, 64}; !slices.Equal(got, want) {
			t.Errorf("stem %s: the feature map of 64 pixels is %v, want %v", c.stem, got, want)
		}
		if 64/r.Stride() != c.cells || r.Channels() != 64 {
			t.Errorf("stem %s: stride %d and %d channels do not agree with the map %v", c.stem, r.Stride(), r.Channels(), got)
		}
	}
}

func small(t *testing.T, method string) *Model {
	t.Helper()
	m, err := New(cpu.New(2), Config{
		Encoder: ResNet{Depths: [4]int{1, 1, 1, 1}, Base: 4, Stem: StemImageNet}, Method: method, Hidden: 8, Dim: 4,
		Propagation: device.Propagation{Gamma: 2}, TransformLayers: 2, Instance: BYOL, Seed: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKeysStartAsCopiesAndMoveByMomentum(t *testing.T) {
	m := small(t, PixPro)
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
	a, b := small(t, PixPro), small(t, PixContrast)
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
	m := small(t, PixContrast)
	err := m.Load(func(name string) ([]float32, []int, bool) { return nil, nil, false })
	if err == nil || err.Error() != "parameters do not fit the model: encoder.conv1.weight is missing" {
		t.Errorf("a missing parameter gives %v", err)
	}
	err = m.Load(func(name string) ([]float32, []int, bool) { return make([]float32, 3), []int{3}, true })
	if err == nil || err.Error() != "parameters do not fit the model: encoder.conv1.weight is [3], the model's is [4 3 7 7]" {
		t.Errorf("a parameter of another shape gives %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Method: PixPro, Hidden: 1, Dim: 1, Propagation: device.Propagation{Gamma: 2}, Instance: NoInstance}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"method": func(c *Config) { c.Method = "moco" },
		"hidden": func(c *Config) { c.Hidden = 0 },
		"gamma":  func(c *Config) { c.Propagation.Gamma = 0 },
		"clamp":  func(c *Config) { c.Propagation.Clamp = 1 },
		"layers": func(c *Config) { c.TransformLayers = 3 },
		"branch": func(c *Config) { c.Instance = "moco" },
		"loss":   func(c *Config) { c.Method = Instance },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("a bad %s was accepted", name)
		}
	}
}

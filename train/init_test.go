package train

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// otherModel returns the tensors of a model of another seed.
func otherModel(t *testing.T, cfg Options) map[string]safetensors.Tensor {
	t.Helper()
	cfg.Output, cfg.Seed = t.TempDir(), 99
	d := cpu.New(1)
	other, err := New(d, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	tensors := map[string]safetensors.Tensor{}
	for i, p := range other.Model().Parameters() {
		values := p.Read(d)
		values[0] = float32(i) // also what starts as constants differs
		tensors[p.Name] = safetensors.New(p.Name, p.Shape, values)
	}
	return tensors
}

// TestInitCopiesEveryKeyHead has a file without key branch and heads of whole
// images.
func TestInitCopiesEveryKeyHead(t *testing.T) {
	cfg := tiny("", t.TempDir())
	method.Options[*method.Instance](&cfg).Branch = method.BYOL
	var tensors []safetensors.Tensor
	for name, tensor := range otherModel(t, cfg) {
		if !strings.Contains(name, "_k.") {
			tensors = append(tensors, tensor)
		}
	}
	cfg.Init = writeTensors(t, tensors)
	trainer, err := New(cpu.New(1), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := trainer.InitReport(); len(r.Random) > 0 {
		t.Errorf("left at random: %v", r.Random)
	}
}

func TestInitTakesWhatFits(t *testing.T) {
	cfg := tiny("", t.TempDir())
	source := otherModel(t, cfg)
	for _, c := range []struct {
		name                        string
		rename                      func(name string) string // "" leaves it out
		taken, copied, random, left int
	}{
		{"the whole model", func(n string) string { return n }, 218, 0, 0, 0},
		{"published", func(n string) string { return "module." + n }, 218, 0, 0, 0},
		{"torchvision", func(n string) string {
			n, _ = strings.CutPrefix(n, "encoder.")
			if strings.Contains(n, "_k.") || strings.HasPrefix(n, "projector") || strings.HasPrefix(n, "value") {
				return ""
			}
			return n
		}, 100, 100, 18, 0},
		{"without the key branch", func(n string) string {
			if strings.Contains(n, "_k.") {
				return ""
			}
			return n
		}, 110, 108, 0, 0},
		{"with what the model has not", func(n string) string {
			return strings.Replace(n, "value_transform", "predictor", 1)
		}, 216, 0, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tensors []safetensors.Tensor
			for _, tensor := range source {
				if tensor.Name = c.rename(tensor.Name); tensor.Name != "" {
					tensors = append(tensors, tensor)
				}
			}
			slices.SortFunc(tensors, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
			run := cfg
			run.Output, run.Init = t.TempDir(), writeTensors(t, tensors)
			d := cpu.New(1)
			trainer, err := New(d, run, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := trainer.InitReport()
			if got := [4]int{len(r.Taken), len(r.Copied), len(r.Random), len(r.Left)}; got != [4]int{c.taken, c.copied, c.random, c.left} {
				t.Errorf("taken, copied, random, left are %v in %s", got, r)
			}
			for _, p := range trainer.Model().Parameters() {
				from := p.Name
				switch {
				case slices.Contains(r.Random, p.Name):
					continue
				case slices.Contains(r.Copied, p.Name):
					from = queryName(p.Name)
				}
				checkParameter(t, p, p.Read(d), source[from])
			}
		})
	}
}

func checkParameter(t *testing.T, p *nn.Parameter, got []float32, tensor safetensors.Tensor) {
	t.Helper()
	want, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s was not set", p.Name)
	}
}

func writeTensors(t *testing.T, tensors []safetensors.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInitNamesWhatDoesNotFit(t *testing.T) {
	cfg := tiny("", t.TempDir())
	source := otherModel(t, cfg)
	for name, change := range map[string]func(map[string]safetensors.Tensor){
		"encoder.conv1.weight is [1], the model's is [4 3 3 3]": func(m map[string]safetensors.Tensor) {
			m["encoder.conv1.weight"] = safetensors.New("encoder.conv1.weight", []int{1}, []float32{1})
		},
		"encoder.bn1.running_mean is missing": func(m map[string]safetensors.Tensor) { delete(m, "encoder.bn1.running_mean") },
	} {
		var tensors []safetensors.Tensor
		changed := map[string]safetensors.Tensor{}
		for n, tensor := range source {
			changed[n] = tensor
		}
		change(changed)
		for _, tensor := range changed {
			tensors = append(tensors, tensor)
		}
		run := cfg
		run.Init = writeTensors(t, tensors)
		if _, err := New(cpu.New(1), run, nil); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), run.Init) {
			t.Errorf("error %v, want one that says %q", err, name)
		}
	}
}

// TestInitIsForNewRunsOnly resumes a run whose file of weights is gone.
func TestInitIsForNewRunsOnly(t *testing.T) {
	data := makeShards(t)
	cfg := tiny(data, t.TempDir())
	var tensors []safetensors.Tensor
	for _, tensor := range otherModel(t, cfg) {
		tensors = append(tensors, tensor)
	}
	cfg.Init, cfg.Resume = writeTensors(t, tensors), "auto"
	if err := trainFor(t, cfg, 2); err == nil {
		t.Fatal("the run was not stopped")
	}
	if err := os.Remove(cfg.Init); err != nil {
		t.Fatal(err)
	}
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
}

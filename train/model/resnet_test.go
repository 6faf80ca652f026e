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
	if testing.Short() {
		t.Skip("-short: draws every weight of twelve encoders, slowly under the race detector; make test runs it")
	}
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

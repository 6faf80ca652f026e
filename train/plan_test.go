package train

import (
	"math"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/device/dry"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// TestDryDeviceCountsWorkAsPublished compares with the multiply-adds of an
// image of 224 pixels that torchvision publishes for the networks, 0.5 and 2
// million of which are the classifier's.
func TestDryDeviceCountsWorkAsPublished(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: counts in one goroutine, slowly under the race detector; make test runs it")
	}
	for arch, want := range map[string]float64{"resnet18": 1.814e9 - 0.5e6, "resnet50": 4.089e9 - 2e6, "resnext101_32x8d": 16.414e9 - 2e6} {
		r, err := model.Lookup(arch, model.StemImageNet, 1)
		if err != nil {
			t.Fatal(err)
		}
		d := &dry.Device{}
		var list []*nn.Parameter
		e := model.NewEncoder(nn.Builder{Device: d, List: &list}, r)
		tape := nn.NewTape(d, nn.Inference, 1)
		e.Forward(tape, tape.Input(d.Alloc(1, 224, 224, 3)))
		if got := float64(d.Flops) / 2; math.Abs(got-want) > 0.002*want {
			t.Errorf("%s takes %.4g multiply-adds, published are %.4g", arch, got, want)
		}
	}
}

// peakDevice measures the memory in use on a device that computes.
type peakDevice struct {
	device.Device
	bytes, peak int64
}

func (d *peakDevice) AllocActivation(shape ...int) device.Tensor { return d.Alloc(shape...) }

func (d *peakDevice) Alloc(shape ...int) device.Tensor {
	t := d.Device.Alloc(shape...)
	d.bytes += 4 * int64(t.Len())
	d.peak = max(d.peak, d.bytes)
	return t
}

func (d *peakDevice) Free(t device.Tensor) {
	d.bytes -= 4 * int64(t.Len())
	d.Device.Free(t)
}

func TestPlanTellsTheMemoryThatAStepTakes(t *testing.T) {
	cfg := tiny("shards", t.TempDir())
	plan, err := MakePlan(cfg, 40)
	if err != nil {
		t.Fatal(err)
	}
	d := &peakDevice{Device: cpu.New(1)}
	if _, err := TimeSteps(d, cfg, 1); err != nil {
		t.Fatal(err)
	}
	if plan.MemoryBytes != d.peak {
		t.Errorf("%d bytes are planned, a step takes %d", plan.MemoryBytes, d.peak)
	}
	if plan.TotalSteps != 30 || plan.Cells != 4 {
		t.Errorf("the plan is %+v, want 30 steps on 4 cells", plan)
	}
}

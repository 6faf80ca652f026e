package train

import (
	"testing"

	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/device/dry"
)

// TestTimeConvolutions compares what the convolutions of a step add up to with
// its plan.
func TestTimeConvolutions(t *testing.T) {
	cfg := tiny("shards", t.TempDir())
	counter := &convolutionTimer{Device: &dry.Device{}, times: map[convolutionKey]*ConvolutionTime{}}
	e, err := newEngine(counter, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.repeat(blankViews(&cfg), 0.99, 0.01, 1)
	list, err := TimeConvolutions(cpu.New(2), cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(counter.order) || len(list) < 5 {
		t.Fatalf("%d geometries, want %d", len(list), len(counter.order))
	}
	forward, data, weights := 0, 0, 0
	for i, c := range list {
		k := counter.order[i]
		if c.Images != k.images || c.In != k.in || c.Out != k.out || c.Convolution != k.Convolution {
			t.Errorf("geometry %d is %+v, want %+v", i, c, k)
		}
		forward, data, weights = forward+c.Forward.Calls, data+c.Data.Calls, weights+c.Weights.Calls
		if c.Forward.Seconds <= 0 || c.Weights.Seconds <= 0 || c.Flops <= 0 {
			t.Errorf("%+v takes no time", c)
		}
	}
	// Keys have no gradients, and the views none either.
	if trained := len(e.model.Trained()); forward != 2*weights && forward != 2*weights-1 || data != weights-1 || trained < weights {
		t.Errorf("%d, %d and %d calls a step, of %d parameters", forward, data, weights, trained)
	}
}

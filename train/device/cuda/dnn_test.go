//go:build cuda

package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
)

// convolve computes a convolution by cuDNN and tells which plan it took.
func convolve(t *testing.T, d *Device) choice {
	t.Helper()
	if d.convolver == nil {
		t.Skip("no cuDNN for this driver: ", d.Name())
	}
	x, w, y := d.AllocActivation(1, 4, 4, 8), d.Alloc(8, 3, 3, 8), d.AllocActivation(1, 4, 4, 8)
	for _, v := range []device.Tensor{x, w} {
		d.Zero(v)
	}
	d.Convolve(y, x, w, device.Tensor{}, device.Convolution{Kernel: 3, Stride: 1, Padding: 1})
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	for key, plan := range d.convolver.plans {
		if key.operation != cudnn.Forward || plan == nil {
			t.Fatalf("plan %+v of %+v", plan, key)
		}
		for _, c := range d.convolver.choices {
			if c.Engine == plan.Engine {
				return c
			}
		}
		return choice{-1, plan.Engine} // which is not kept
	}
	t.Fatal("no plan was made")
	return choice{}
}

// TestChoicesAreKept: what one process has chosen, another takes, whatever it finds
// faster; a choice of an engine that is not there any more is made anew; and where
// nothing can be kept, the first plan that can be run is taken.
func TestChoicesAreKept(t *testing.T) {
	cudatest.Open(t) // a card may have one plan alone
	dir := t.TempDir()
	o := Options{Precision: device.FP32, CacheDir: dir}
	first, second := open(t, o), open(t, o) // both before there is a choice
	chosen := convolve(t, first)
	path := first.convolver.file
	other := choice{1 + 2 - chosen.Place, 7 + 8 - chosen.Engine} // of the two plans that can be run
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer(
		`"place": `+string(rune('0'+chosen.Place)), `"place": `+string(rune('0'+other.Place)),
		`"engine": `+string(rune('0'+chosen.Engine)), `"engine": `+string(rune('0'+other.Engine)),
	).Replace(string(text))
	if err := os.WriteFile(path, []byte(edited), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := convolve(t, second); got != other {
		t.Errorf("another process has kept %+v, and %+v is taken", other, got)
	}
	for _, d := range []*Device{first, second} {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, useless := range []string{strings.ReplaceAll(edited, `"engine": `, `"engine": 9`), "null", "[", ""} {
		if err := os.WriteFile(path, []byte(useless), 0o666); err != nil {
			t.Fatal(err)
		}
		third := open(t, o)
		if got := convolve(t, third); got.Engine > 8 || got.Place < 0 {
			t.Errorf("of choices %q, %+v is taken", useless, got)
		}
		if err := third.Close(); err != nil {
			t.Error(err)
		}
	}

	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o666)); err != nil { // nothing can lie in it
		t.Fatal(err)
	}
	for range 3 {
		d := open(t, o)
		if got := convolve(t, d); got != (choice{-1, 7}) {
			t.Errorf("where nothing can be kept, %+v is taken", got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("something was kept")
	}
}

// TestWithoutCuDNN: the device's name says whether there is one.
func TestWithoutCuDNN(t *testing.T) {
	faults := cudatest.Open(t)
	faults.FailCall("cudnnCreate", 1)
	d := open(t, Options{Precision: device.FP32})
	if strings.HasSuffix(d.Name(), ", no cuDNN)") {
		t.Skip("no cuDNN for this driver: ", d.Name())
	}
	if d.convolver != nil || !strings.Contains(d.Name(), "does not start: cuDNN status HOST_ALLOCATION_FAILED)") {
		t.Errorf("cuDNN that does not start is %v of %s", d.convolver, d.Name())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	t.Setenv(withoutVariable, "off")
	d = open(t, Options{Precision: device.FP32})
	if d.convolver != nil || !strings.HasSuffix(d.Name(), ", cuDNN left alone)") {
		t.Errorf("with %s=off: %s", withoutVariable, d.Name())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	t.Setenv(withoutVariable, "no")
	if _, err := Open(Options{Precision: device.FP32}); err == nil || !strings.Contains(err.Error(), "use off") {
		t.Errorf("%s=no is not refused: %v", withoutVariable, err)
	}
}

//go:build cuda

package cuda

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
)

// useEverything calls the driver, NVRTC, cuBLAS and cuDNN in all the ways that a
// device does.
func useEverything(o Options) (values []float32, err error) {
	d, err := Open(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	d.StartProfile()
	x := d.AllocActivation(4, 4, 4, 3)
	pixels, weights := make([]uint8, 96), make([]float32, 54)
	for i := range pixels {
		pixels[i] = uint8(37 * i)
	}
	for i := range weights {
		weights[i] = float32(i%7) - 3
	}
	for range 3 { // so that a stage is used again
		d.UploadViews(x, [2][]uint8{pixels, pixels}, [3]float64{0.5, 0.5, 0.5}, [3]float64{1, 1, 1})
	}
	w, y := d.Alloc(2, 3, 3, 3), d.AllocActivation(4, 4, 4, 2)
	d.Zero(w)
	d.Upload(w, weights)
	large := d.Alloc(2 * small)
	d.Upload(large, make([]float32, large.Len()))
	d.Free(large)
	d.Convolve(y, x, w, device.Tensor{}, device.Convolution{Kernel: 3, Stride: 1, Padding: 1})
	values = make([]float32, y.Len())
	d.Download(values, y)
	if _, err := d.Profile(); err != nil {
		return nil, err
	}
	return values, d.Sync()
}

// TestEveryCallFails lets each call of a device's life fail once: there is an
// error that names the card, or, where there is another way, nearly the same result;
// and nothing stays behind.
func TestEveryCallFails(t *testing.T) {
	faults := cudatest.Open(t)
	faults.SetMemory(256 << 20) // the device takes a part of it at once, for each call anew
	defer faults.SetMemory(cudatest.Memory)
	for _, o := range []Options{{Precision: device.FP32}, {Precision: device.BF16, Separate: true}} {
		seen := map[string]int{}
		o.CacheDir = t.TempDir()
		want, err := useEverything(o)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; ; n++ {
			o.CacheDir = t.TempDir()
			before := faults.Live()
			faults.FailAt(n)
			got, err := useEverything(o)
			failed := faults.Failed()
			faults.FailAt(0)
			if live := faults.Live(); live != before {
				t.Errorf("call %d, %s, failed: %d objects stay behind", n, failed, live-before)
			}
			if failed == "" {
				if err != nil {
					t.Errorf("no call failed, but there is an error: %v", err)
				}
				break
			}
			// Memory and kernels have a second try, the cache is optional, and windows can
			// be gathered without cuDNN.
			recovers := failed == "cuMemAlloc" || failed == "cuMemAlloc_v2" || strings.HasPrefix(failed, "cuModuleLoadData") || strings.HasPrefix(failed, "cudnn")
			if err == nil && !recovers {
				t.Errorf("call %d, %s, failed without an error", n, failed)
			}
			for i := range want {
				if err == nil && math.Abs(float64(got[i]-want[i])) > 0.02*(1+math.Abs(float64(want[i]))) {
					t.Fatalf("call %d, %s, failed: value %d is %g, want %g", n, failed, i, got[i], want[i])
				}
			}
			if err != nil && !strings.Contains(err.Error(), "cuda:0") {
				t.Errorf("call %d, %s, failed with an error that does not name the card: %v", n, failed, err)
			}
			if seen[failed]++; seen[failed] > 20 { // cuDNN's descriptors take many calls
				n += 5
			}
		}
		if len(seen) < 35 {
			t.Errorf("only %d functions were made to fail: %v", len(seen), seen)
		}
		t.Logf("%+v: %d functions", o, len(seen))
	}
}

func TestOutOfMemory(t *testing.T) {
	faults := cudatest.Open(t)
	d := open(t, Options{Precision: device.FP32})
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	kept := d.Alloc(1 << 20)
	d.Free(d.Alloc(1 << 26)) // an allocation that can be given back
	d.Zero(kept)
	faults.FailCall("cuMemAlloc", 1) // there is a second try
	d.Zero(d.Alloc(1 << 27))
	if err := d.Sync(); err != nil {
		t.Fatalf("memory that was given back did not help: %v", err)
	}
	d.Zero(d.Alloc(1 << 50))
	var full *device.OutOfMemoryError
	if err := d.Sync(); !errors.As(err, &full) || full.Needed != 1<<52 || full.Available == 0 {
		t.Errorf("the error is %v", err)
	}
}

//go:build cuda

package cuda

import (
	"errors"
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
	for range 3 { // so that a stage is used again
		d.UploadViews(x, [2][]uint8{make([]uint8, 96), make([]uint8, 96)}, [3]float64{0.5, 0.5, 0.5}, [3]float64{1, 1, 1})
	}
	w, y := d.Alloc(2, 3, 3, 3), d.AllocActivation(4, 4, 4, 2)
	d.Zero(w)
	d.Upload(w, make([]float32, w.Len()))
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
// error that names the card, and nothing stays behind.
func TestEveryCallFails(t *testing.T) {
	faults := cudatest.Open(t)
	faults.SetMemory(256 << 20) // the device takes a part of it at once, for each call anew
	defer faults.SetMemory(cudatest.Memory)
	for _, o := range []Options{{Precision: device.FP32}, {Precision: device.BF16, Separate: true}} {
		seen := map[string]int{}
		for n := 1; ; n++ {
			o.CacheDir = t.TempDir()
			before := faults.Live()
			faults.FailAt(n)
			_, err := useEverything(o)
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
			// Memory and kernels have a second try, and the cache is optional.
			recovers := failed == "cuMemAlloc" || failed == "cuMemAlloc_v2" || strings.HasPrefix(failed, "cuModuleLoadData")
			if err == nil && !recovers {
				t.Errorf("call %d, %s, failed without an error", n, failed)
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

//go:build cuda

// Package softcuda tests the software device: that it finds what it is there
// to find, and does not find it in sound code.
package softcuda

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"gorgonia.org/cu"

	_ "github.com/seed-436d2970/pixpro/train/device/cuda/driver"
	"github.com/seed-436d2970/pixpro/train/device/cuda/nvrtc"
)

const text = `
// Each block turns its 64 numbers around.
template <bool barrier> __device__ void turn(float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  if (barrier) __syncthreads();
  x[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void turned(float* x) { turn<true>(x); }
extern "C" __global__ void unsynchronised(float* x) { turn<false>(x); }
extern "C" __global__ void divergent(float* x) {
  if (threadIdx.x < 32) __syncthreads();
  x[threadIdx.x] = 1;
}
extern "C" __global__ void halfwarp(float* x) {
  if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}
extern "C" __global__ void summed(float* x) {
  float v = x[blockIdx.x * 64 + threadIdx.x];
  for (int o = 16; o; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
  x[blockIdx.x * 64 + threadIdx.x] = v;
}
extern "C" __global__ void shifted(float* x, int by) { x[(int)(blockIdx.x * 64 + threadIdx.x) + by] = 1; }
extern "C" __global__ void fresh(float* x) {
  __shared__ float s[64];
  if (threadIdx.x > 64) s[threadIdx.x] = 0;
  x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void mixed(float* x, int i, double d, float f, long long l) { x[threadIdx.x] = i + d + f + l; }
`

// card is a context with the kernels above and 128 numbers, 0 to 127.
type card struct {
	t       *testing.T
	context cu.CUContext
	module  cu.Module
	x       cu.DevicePtr
}

const numbers = 128

var (
	failCall func(function string, n int)
	failed   func() string
	live     func() int
	setTotal func(bytes uint64)
)

func TestMain(m *testing.M) {
	runtime.LockOSThread()
	library, err := purego.Dlopen("libcuda.so.1", purego.RTLD_NOW)
	if err != nil {
		panic(err)
	}
	purego.RegisterLibFunc(&failCall, library, "softcudaFailCall")
	purego.RegisterLibFunc(&failed, library, "softcudaFailed")
	purego.RegisterLibFunc(&live, library, "softcudaLive")
	purego.RegisterLibFunc(&setTotal, library, "softcudaSetMemory")
	os.Exit(m.Run())
}

func compile(t *testing.T, source string) (string, error) {
	t.Helper()
	c, err := nvrtc.Open(cu.Version())
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Compile(source, "test.cu", "--gpu-architecture=sm_80")
	if err != nil {
		return err.Error(), err
	}
	return string(made.Code), nil
}

func newCard(t *testing.T) *card {
	t.Helper()
	runtime.LockOSThread()
	before := live()
	c := &card{t: t}
	var err error
	if c.context, err = cu.Device(0).MakeContext(cu.SchedAuto); err != nil {
		t.Fatal(err)
	}
	code, err := compile(t, text)
	if err != nil {
		t.Fatal(code, err)
	}
	if c.module, err = cu.LoadData(code); err != nil {
		t.Fatal(err)
	}
	if c.x, err = cu.MemAlloc(4 * numbers); err != nil {
		t.Fatal(err)
	}
	values := make([]float32, numbers)
	for i := range values {
		values[i] = float32(i)
	}
	if err := cu.MemcpyHtoD(c.x, unsafe.Pointer(&values[0]), 4*numbers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// After a failed kernel these report its error, and free all the same.
		_ = cu.MemFree(c.x)
		_ = c.module.Unload()
		_ = c.context.Destroy()
		if n := live(); n != before {
			t.Errorf("%d objects are left", n-before)
		}
	})
	return c
}

// launch runs a kernel on the stream with two blocks of 64 threads.
func (c *card) launch(stream cu.Stream, kernel string, more ...uint64) error {
	c.t.Helper()
	f, err := c.module.Function(kernel)
	if err != nil {
		c.t.Fatal(err)
	}
	slots := append([]uint64{uint64(c.x)}, more...)
	parameters := make([]unsafe.Pointer, len(slots))
	for i := range slots {
		parameters[i] = unsafe.Pointer(&slots[i])
	}
	return f.Launch(2, 1, 1, 64, 1, 1, 0, stream, parameters)
}

func (c *card) numbers() []float32 {
	c.t.Helper()
	got := make([]float32, numbers)
	if err := cu.MemcpyDtoH(unsafe.Pointer(&got[0]), c.x, 4*numbers); err != nil {
		c.t.Fatal(err)
	}
	return got
}

func (c *card) turned() bool {
	for i, v := range c.numbers() {
		if v != float32(i/64*64+63-i%64) {
			return false
		}
	}
	return true
}

func TestSoundKernels(t *testing.T) {
	c := newCard(t)
	if err := c.launch(cu.NoStream, "turned"); err != nil {
		t.Fatal(err)
	}
	if !c.turned() {
		t.Fatalf("not turned around: %v", c.numbers())
	}
	if err := c.launch(cu.NoStream, "summed"); err != nil {
		t.Fatal(err)
	}
	for i, v := range c.numbers() {
		first := i/32*32 ^ 32 // turned around, a warp holds the other one's numbers
		if want := float32(32*first + 31*32/2); v != want {
			t.Fatalf("number %d is %g, and the sum of its warp %g", i, v, want)
		}
	}
	if err := c.launch(cu.NoStream, "mixed", uint64(uint32(0xffffffff)), 0x3fe0000000000000, 0x40000000, 1<<33); err != nil {
		t.Fatal(err)
	}
	if got, want := c.numbers()[5], float32(-1+0.5+2+float64(1<<33)); got != want {
		t.Fatalf("parameters of four types make %g, not %g", got, want)
	}
}

func TestMissingBarrier(t *testing.T) {
	c := newCard(t)
	if err := c.launch(cu.NoStream, "unsynchronised"); err != nil {
		t.Fatal(err)
	}
	if c.turned() {
		t.Error("a missing barrier does not show")
	}
}

func TestBadKernels(t *testing.T) {
	for _, test := range []struct {
		name, kernel string
		parameters   []uint64
		want         string
	}{
		{"barrier for half of the block", "divergent", nil, "LaunchFailed"},
		{"shuffle for half of the warp", "halfwarp", nil, "LaunchFailed"},
		{"one number too far", "shifted", []uint64{1}, "IllegalAddress"},
		{"before the first", "shifted", []uint64{1<<32 - 4096}, "IllegalAddress"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCard(t)
			err := c.launch(cu.NoStream, test.kernel, test.parameters...)
			if err == nil {
				err = cu.Synchronize()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			if again := cu.Synchronize(); again == nil {
				t.Error("the context goes on after its work failed")
			}
		})
	}
}

func TestFreshMemoryIsNoise(t *testing.T) {
	c := newCard(t)
	other, err := cu.MemAlloc(4 * numbers)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cu.MemFree(other); err != nil {
			t.Error(err)
		}
	}()
	var got [numbers]uint32
	if err := cu.MemcpyDtoH(unsafe.Pointer(&got[0]), other, 4*numbers); err != nil {
		t.Fatal(err)
	}
	if got[0] != 0xcdcdcdcd || got[numbers-1] != 0xcdcdcdcd {
		t.Errorf("fresh device memory holds %x", got[0])
	}
	if err := c.launch(cu.NoStream, "fresh"); err != nil {
		t.Fatal(err)
	}
	if v := c.numbers()[0]; v > -1e8 {
		t.Errorf("fresh shared memory holds %g", v)
	}
}

// In the lazy mode a stream's work is not done before something waits for it.
func TestLazyStreams(t *testing.T) {
	lazy := os.Getenv("SOFTCUDA_ASYNC") == "lazy"
	c := newCard(t)
	first, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Destroy()
	second, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Destroy()
	if err := c.launch(first, "turned"); err != nil {
		t.Fatal(err)
	}
	if c.turned() == lazy {
		t.Fatalf("lazy is %v, and the work of a stream that nothing waits for is done: %v", lazy, !lazy)
	}
	event, err := cu.MakeEvent(cu.DisableTiming)
	if err != nil {
		t.Fatal(err)
	}
	defer cu.DestroyEvent(&event)
	if err := event.Record(first); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(event, 0); err != nil {
		t.Fatal(err)
	}
	if err := second.Synchronize(); err != nil {
		t.Fatal(err)
	}
	if !c.turned() {
		t.Error("a stream that waits for an event of another does not run that one's work")
	}
}

func TestFailures(t *testing.T) {
	c := newCard(t)
	failCall("cuMemAlloc_v2", 2)
	p, err := cu.MemAlloc(16)
	if err != nil {
		t.Fatal(err)
	}
	if err := cu.MemFree(p); err != nil {
		t.Fatal(err)
	}
	if _, err := cu.MemAlloc(16); err == nil || failed() != "cuMemAlloc_v2" {
		t.Fatalf("the second allocation should fail: %v, %q", err, failed())
	}
	setTotal(8 * numbers)
	defer setTotal(4 << 30)
	if _, err := cu.MemAlloc(4*numbers + 1); err == nil {
		t.Error("more memory than the card has")
	}
	if p, err = cu.MemAlloc(4 * numbers); err != nil {
		t.Fatalf("the card's last bytes: %v", err)
	}
	if err := cu.MemFree(p); err != nil {
		t.Error(err)
	}
	if err := cu.MemFree(p); err == nil {
		t.Error("freed twice")
	}
	var beyond [numbers + 1]float32
	if err := cu.MemcpyDtoH(unsafe.Pointer(&beyond[0]), c.x, 4*(numbers+1)); err == nil {
		t.Error("a copy of more than the allocation")
	}
}

func TestCompileError(t *testing.T) {
	log, err := compile(t, "extern \"C\" __global__ void k(float* x) { y = x; }")
	if err == nil || !strings.Contains(log, "kernels.cu:1") || !strings.Contains(log, "y") {
		t.Errorf("got %v and the log %q", err, log)
	}
}

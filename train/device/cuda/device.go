//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cublas"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
	_ "github.com/seed-436d2970/pixpro/train/device/cuda/driver" // cu calls the driver through it
	"github.com/seed-436d2970/pixpro/train/device/cuda/nvrtc"
	"gorgonia.org/cu"
)

// Device computes on a card. It implements device.Device, device.FusedLosses and
// device.Profiler.
type Device struct {
	opts    Options
	name    string
	half    bool // activations are bfloat16
	compute cublas.Compute

	// What the calls know.
	arena     arena
	batch     batch             // calls that are not queued yet
	tables    [tableKinds]table // of earlier ones
	limit     int64             // bytes that the arena may take from the card
	workspace int64             // bytes of it that the gathered windows of a convolution may take
	profiling bool

	// The queue to the goroutine that owns the context, and the first failure.
	tasks   chan task
	ended   chan struct{}
	failure atomic.Pointer[error]

	// What only that goroutine touches.
	compiled  cu.Module
	functions map[string]cu.Function
	stream    cu.Stream // all work but the copies of views
	copies    cu.Stream
	blas      *cublas.Handle
	convolver *convolver // nil without cuDNN
	views     [2]stage
	floats    [4]stage
	turns     struct{ views, floats int }
	timings   []timing
	orphans   []uintptr      // allocations that no tensor is in any more
	release   []func() error // what was opened, in order
}

// task is a call on the owner of the context.
type task struct {
	run    func() error
	done   chan struct{} // closed afterwards, if not nil
	always bool          // do not skip it after a failure
}

// memory is a tensor's place on the card.
type memory struct {
	device   *Device
	part     *span // nil after a failure
	elements int
	half     bool
}

// Floats implements device.Memory.
func (m *memory) Floats() int { return m.elements }

// queueLength is how many calls may wait: more than a step has.
const queueLength = 1 << 13

// The parts of a card's free memory, by its size in bytes, that tensors do not
// get: what is left to cuBLAS, to kernels and to upload buffers, and what the
// gathered windows of convolutions may take. The second has to do with the
// card alone, not with who else uses it: sums over a batch are added up in the
// parts that it allows.
func spare(free int64) int64        { return min(384<<20, free/8) }
func workspaceOf(total int64) int64 { return min(256<<20, total/16) }

// available is what tensors may take, less a tenth that the arena may lose to
// fragments.
func (d *Device) available() int64 { return (d.limit - d.workspace) / 10 * 9 }

// Open opens a card.
func Open(o Options) (*Device, error) {
	d := &Device{
		opts: o, half: o.Precision == device.BF16, compute: cublas.Compute32F, functions: map[string]cu.Function{},
		tasks: make(chan task, queueLength), ended: make(chan struct{}),
	}
	if o.Precision == device.TF32 {
		d.compute = cublas.Compute32FTF32
	}
	d.arena = arena{separate: o.Separate, allocate: d.allocate}
	go d.own()
	d.wait(d.open)
	if err := d.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("open cuda:%d: %w", o.Ordinal, err), d.Close())
	}
	return d, nil
}

// own carries the tasks out. Its thread, which the context is current on, ends
// with it.
func (d *Device) own() {
	runtime.LockOSThread()
	defer close(d.ended)
	for t := range d.tasks {
		if t.always || d.failure.Load() == nil {
			if err := t.run(); err != nil {
				if d.name != "" { // Open names the card before it has one
					err = fmt.Errorf("%s: %w", d.name, err)
				}
				d.fail(err)
			}
		}
		if t.done != nil {
			close(t.done)
		}
	}
}

// do queues a call.
func (d *Device) do(run func() error) {
	d.flush()
	d.tasks <- task{run: run}
}

// wait queues a call and waits until it is done or skipped.
func (d *Device) wait(run func() error) {
	d.flush()
	done := make(chan struct{})
	d.tasks <- task{run: run, done: done}
	<-done
}

// opened notes how to give something up.
func (d *Device) opened(release func() error) { d.release = append(d.release, release) }

func (d *Device) open() error {
	count, err := cu.NumDevices()
	if err != nil {
		return fmt.Errorf("count cards: %w", err)
	}
	if d.opts.Ordinal >= count {
		return fmt.Errorf("there are %d cards, counted from 0: see pixpro devices", count)
	}
	card, err := cu.GetDevice(d.opts.Ordinal)
	if err != nil {
		return err
	}
	name, err := card.Name()
	if err != nil {
		return fmt.Errorf("name of the card: %w", err)
	}
	major, err := card.Attribute(cu.ComputeCapabilityMajor)
	if err != nil {
		return fmt.Errorf("compute capability: %w", err)
	}
	minor, err := card.Attribute(cu.ComputeCapabilityMinor)
	if err != nil {
		return fmt.Errorf("compute capability: %w", err)
	}
	if d.opts.Precision != device.FP32 && major < 8 {
		return fmt.Errorf("%s has compute capability %d.%d; precision %s needs 8.0: use fp32", name, major, minor, d.opts.Precision)
	}
	d.name = fmt.Sprintf("cuda:%d (%s, compute capability %d.%d, %s)", d.opts.Ordinal, name, major, minor, d.opts.Precision)

	driver := cu.Version()
	if driver < 0 {
		return errors.New("the driver does not tell its version")
	}
	compiler, err := nvrtc.Open(driver)
	if err != nil {
		return err
	}
	blas, err := cublas.Open(driver)
	if err != nil {
		return err
	}
	// The libraries prefer the card's primary context. Waiting for the card leaves
	// the core to the pipeline; if another part of the program has the context
	// already, its way to wait stays.
	if err := card.SetPrimaryCtxFlags(cu.SchedBlockingSync); err != nil && err != error(cu.PrimaryContextActive) {
		return fmt.Errorf("set up the card's context: %w", err)
	}
	context, err := card.RetainPrimaryCtx()
	if err != nil {
		return fmt.Errorf("create the card's context: %w", err)
	}
	d.opened(card.ReleasePrimaryCtx)
	if err := cu.SetCurrentContext(context); err != nil {
		return fmt.Errorf("use the card's context: %w", err)
	}
	for _, s := range []*cu.Stream{&d.stream, &d.copies} {
		if *s, err = cu.MakeStream(cu.NonBlocking); err != nil {
			return fmt.Errorf("create a stream: %w", err)
		}
		d.opened(s.Destroy)
	}
	if d.blas, err = blas.Create(); err != nil {
		return fmt.Errorf("start cuBLAS: %w", err)
	}
	d.opened(d.blas.Destroy)
	if err := d.blas.SetStream(uintptr(unsafe.Pointer(d.stream.C()))); err != nil {
		return err
	}
	if err := d.loadKernels(compiler, driver, name, 10*major+minor); err != nil {
		return err
	}
	d.opened(func() error { return d.compiled.Unload() })
	convolver, err := d.openConvolver(driver, name, 10*major+minor)
	if err != nil {
		return err
	}
	d.name = fmt.Sprintf("%s, %s)", strings.TrimSuffix(d.name, ")"), convolver)
	free, total, err := cu.MemInfo() // without what the libraries and the kernels took
	if err != nil {
		return fmt.Errorf("free memory: %w", err)
	}
	d.limit = free - spare(free)
	if d.workspace = d.opts.workspace; d.workspace == 0 {
		d.workspace = min(workspaceOf(total), d.limit/4)
	}
	d.arena.chunk = min(64<<20, free/64)
	for i := range d.views {
		if err := d.views[i].open(d); err != nil {
			return err
		}
	}
	for i := range d.floats {
		if err := d.floats[i].open(d); err != nil {
			return err
		}
	}
	return nil
}

// Name tells the card and the precision.
func (d *Device) Name() string { return d.name }

// Err implements device.Device.
func (d *Device) Err() error {
	failure := d.failure.Load()
	if failure == nil {
		return nil
	}
	err := *failure
	var full *device.OutOfMemoryError
	if (errors.Is(err, error(cu.OutOfMemory)) || errors.Is(err, cublas.AllocFailed) || errors.Is(err, cudnn.DeviceAllocationFailed)) && !errors.As(err, &full) {
		err = fmt.Errorf("%w: %w", err, d.full(0))
	}
	return err
}

// Sync implements device.Device.
func (d *Device) Sync() error {
	d.wait(d.finish)
	return d.Err()
}

// finish waits for the card.
func (d *Device) finish() error {
	if err := d.stream.Synchronize(); err != nil {
		return fmt.Errorf("a kernel or copy before this failed: %w", err)
	}
	return nil
}

// Close waits for the card and gives everything up, also after a failure.
func (d *Device) Close() error {
	var errs []error
	try := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("close cuda:%d: %w", d.opts.Ordinal, err))
		}
	}
	d.tasks <- task{always: true, run: func() error {
		if len(d.release) > 0 && d.failure.Load() == nil {
			try(cu.Synchronize())
		}
		for _, t := range d.timings {
			try(t.close())
		}
		for _, chunk := range d.arena.chunks {
			d.orphans = append(d.orphans, chunk.address)
		}
		for _, address := range d.orphans {
			try(cu.MemFree(cu.DevicePtr(address)))
		}
		for _, release := range slices.Backward(d.release) {
			try(release())
		}
		return nil
	}}
	close(d.tasks)
	<-d.ended
	return errors.Join(errs...)
}

// Alloc implements device.Device.
func (d *Device) Alloc(shape ...int) device.Tensor { return d.alloc(false, shape) }

// AllocActivation implements device.Device.
func (d *Device) AllocActivation(shape ...int) device.Tensor { return d.alloc(d.half, shape) }

func (d *Device) alloc(half bool, shape []int) device.Tensor {
	n := device.Elements(shape)
	m := &memory{device: d, elements: n, half: half}
	if d.failure.Load() == nil {
		bytes := int64(n) * elementSize(half)
		m.part = d.arena.alloc(bytes)
		if m.part == nil {
			d.fail(d.full(bytes))
		}
	}
	return device.Tensor{Shape: shape, Memory: m}
}

func elementSize(half bool) int64 {
	if half {
		return 2
	}
	return 4
}

// fail keeps a failure unless there is one.
func (d *Device) fail(err error) { d.failure.CompareAndSwap(nil, &err) }

// allocate gets the arena another allocation. If the card has none left, or the
// arena has its part of it, those that nothing is in use of are given back first.
func (d *Device) allocate(bytes int64) (address uintptr, ok bool) {
	d.wait(func() error {
		if d.arena.taken+bytes > d.limit {
			if err := d.giveBack(d.arena.trim()); err != nil || d.arena.taken+bytes > d.limit {
				return err
			}
		}
		p, err := d.memAlloc(bytes)
		address, ok = uintptr(p), err == nil
		if err != error(cu.OutOfMemory) {
			return err
		}
		return nil
	})
	return address, ok
}

// memAlloc is an allocation, cu.OutOfMemory if there is not enough memory even
// without what the arena can give back. Meanwhile its caller's goroutine waits.
func (d *Device) memAlloc(bytes int64) (cu.DevicePtr, error) {
	p, err := cu.MemAlloc(bytes)
	if err == nil {
		return p, nil
	}
	if err := d.giveBack(d.arena.trim()); err != nil {
		return 0, err
	}
	if p, err = cu.MemAlloc(bytes); err != nil && err != error(cu.OutOfMemory) {
		return 0, fmt.Errorf("allocate %.1f MiB: %w", float64(bytes)/(1<<20), err)
	}
	return p, err
}

// full is the error of an allocation that cannot be.
func (d *Device) full(bytes int64) error {
	return &device.OutOfMemoryError{Device: d.name, Needed: bytes, InUse: d.arena.inUse, Available: d.available()}
}

// giveBack frees allocations that no work queued from now on uses. What cannot
// be freed now is when the device is closed.
func (d *Device) giveBack(addresses []uintptr) error {
	d.orphans = append(d.orphans, addresses...)
	if d.failure.Load() != nil {
		return nil
	}
	if err := d.finish(); err != nil {
		return err
	}
	for len(d.orphans) > 0 {
		if err := cu.MemFree(cu.DevicePtr(d.orphans[0])); err != nil {
			return fmt.Errorf("free memory: %w", err)
		}
		d.orphans = d.orphans[1:]
	}
	return nil
}

// Free implements device.Device.
func (d *Device) Free(t device.Tensor) {
	m, ok := t.Memory.(*memory)
	if !ok || m.part == nil {
		return
	}
	d.flush()
	d.arena.release(m.part)
	m.part = nil
	if d.opts.Separate {
		if addresses := d.arena.trim(); len(addresses) > 0 {
			d.tasks <- task{always: true, run: func() error { return d.giveBack(addresses) }}
		}
	}
}

// pointer is a tensor's address, 0 for an absent one and after a failure.
func pointer(t device.Tensor) uintptr {
	if !t.Exists() {
		return 0
	}
	m := t.Memory.(*memory)
	if m.part == nil {
		return 0
	}
	return m.part.address
}

func isHalf(t device.Tensor) bool { return t.Exists() && t.Memory.(*memory).half }

// size is a tensor's bytes.
func size(t device.Tensor) int64 {
	if !t.Exists() {
		return 0
	}
	return int64(t.Len()) * elementSize(isHalf(t))
}

// clear zeroes n bytes.
func (d *Device) clear(p uintptr, n int64) {
	if n == 0 {
		return
	}
	d.do(func() error {
		return d.timed("clear", n, 0, func() error { return cu.MemsetD8Async(cu.DevicePtr(p), 0, n, d.stream) })
	})
}

// Download implements device.Device.
func (d *Device) Download(dst []float32, src device.Tensor) {
	mustBe(src.Len() == len(dst), "download of %v to %d floats", src.Shape, len(dst))
	if len(dst) == 0 {
		return
	}
	from := src
	if isHalf(src) {
		from = d.Alloc(src.Len())
		d.launchFlat("widen", src.Len(), size(src)+size(from), from, src, src.Len())
	}
	p := pointer(from)
	d.wait(func() error {
		if err := d.finish(); err != nil {
			return err
		}
		if err := cu.MemcpyDtoH(unsafe.Pointer(&dst[0]), cu.DevicePtr(p), int64(len(dst))*4); err != nil {
			return fmt.Errorf("copy %d values from the card: %w", len(dst), err)
		}
		return nil
	})
	if isHalf(src) {
		d.Free(from)
	}
}

// mustBe panics with a programmer's error unless ok.
func mustBe(ok bool, format string, args ...any) {
	if !ok {
		panic("cuda: shapes do not fit: " + fmt.Sprintf(format, args...))
	}
}

var (
	_ device.Device      = (*Device)(nil)
	_ device.FusedLosses = (*Device)(nil)
	_ device.Profiler    = (*Device)(nil)
)

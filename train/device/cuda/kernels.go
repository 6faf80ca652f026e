//go:build cuda

package cuda

import (
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/nvrtc"
	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
	"gorgonia.org/cu"
)

//go:embed kernels.cu
var source string

// threads is the size of every block: THREADS of kernels.cu.
const threads = 256

// cacheDir is the folder of what is kept for the next run, "" if there is none.
func (d *Device) cacheDir() string {
	if d.opts.CacheDir != "" {
		return d.opts.CacheDir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "pixpro", "cuda")
}

// loadKernels compiles the kernels for the card or takes them from the cache.
func (d *Device) loadKernels(compiler *nvrtc.Compiler, driver int, card string, capability int) error {
	options := []string{"--std=c++14"}
	if d.half {
		options = append(options, "-DPIXPRO_BF16")
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s, capability %d, driver %d, NVRTC %s %q %s", card, capability, driver, compiler.Version(), options, source))
	file, dir := "", d.cacheDir()
	if dir != "" {
		file = filepath.Join(dir, fmt.Sprintf("kernels-sm%d-%x", capability, key[:16]))
		if code, err := os.ReadFile(file); err == nil {
			if d.compiled, err = cu.LoadData(string(code)); err == nil {
				return nil
			}
			// It is of another driver or broken: it is made anew.
		}
	}
	var err error
	for _, target := range targets(capability, compiler.Machine()) {
		var made nvrtc.Result
		made, err = compiler.Compile(source, "kernels.cu", append([]string{"--gpu-architecture=" + target}, options...)...)
		if errors.Is(err, nvrtc.InvalidOption) {
			err = fmt.Errorf("NVRTC %s knows no architecture for compute capability %d.%d: %w", compiler.Version(), capability/10, capability%10, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("compile kernels by NVRTC %s with %s: %w", compiler.Version(), strings.Join(options, " "), err)
		}
		if d.compiled, err = cu.LoadData(string(made.Code)); err != nil {
			err = fmt.Errorf("load kernels for %s compiled by NVRTC %s into driver %s: %w: a driver at least as new as the toolkit is needed", target, compiler.Version(), toolkit.Version(driver), err)
			continue
		}
		if file != "" {
			// Without the cache the next start takes a second longer.
			if os.MkdirAll(dir, 0o777) == nil {
				_ = atomicfile.WriteFile(file, made.Code)
			}
		}
		return nil
	}
	return err
}

// targets lists the architectures to compile for, the best first: the card's own
// in machine code, which every driver that knows the card takes, whatever the
// release of the toolkit; and, since a toolkit older than the card does not know
// that, the intermediate code of the card's and of earlier ones.
func targets(capability int, machine bool) (list []string) {
	if machine {
		list = append(list, fmt.Sprintf("sm_%d", capability))
	}
	list = append(list, fmt.Sprintf("compute_%d", capability))
	for _, c := range []int{120, 100, 90, 80, 75, 70} {
		if c < capability {
			list = append(list, fmt.Sprintf("compute_%d", c))
		}
	}
	return list
}

// function is a kernel by name.
func (d *Device) function(name string) (cu.Function, error) {
	f, ok := d.functions[name]
	if !ok {
		var err error
		if f, err = d.compiled.Function(name); err != nil {
			return f, fmt.Errorf("kernel %s: %w", name, err)
		}
		d.functions[name] = f
	}
	return f, nil
}

// launchFlat launches a kernel with a thread for each of n elements; bytes is
// what it reads and writes.
func (d *Device) launchFlat(kernel string, n int, bytes int64, args ...any) {
	d.launch(kernel, [3]int{(n + threads - 1) / threads, 1, 1}, [2]int{threads, 1}, bytes, args...)
}

// launch queues a kernel. Arguments are tensors, addresses, and numbers.
func (d *Device) launch(kernel string, grid [3]int, block [2]int, bytes int64, args ...any) {
	if grid[0]*grid[1]*grid[2] == 0 {
		return
	}
	if len(args) > maxParameters {
		panic("cuda: too many parameters for kernel " + kernel)
	}
	slots := make([]uint64, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case device.Tensor:
			slots[i] = uint64(pointer(a))
		case uintptr:
			slots[i] = uint64(a)
		case int:
			slots[i] = uint64(int64(a))
		case bool:
			if a {
				slots[i] = 1
			}
		case float32:
			slots[i] = uint64(math.Float32bits(a))
		case float64:
			slots[i] = math.Float64bits(a)
		default:
			panic(fmt.Sprintf("cuda: kernel %s cannot take a %T", kernel, a))
		}
	}
	d.do(func() error {
		f, err := d.function(kernel)
		if err != nil {
			return err
		}
		return d.timed(kernel, bytes, 0, func() error {
			return launchKernel(f, grid, block, d.stream, slots)
		})
	})
}

// timing is a piece of work between two events.
type timing struct {
	name       string
	bytes      int64
	flops      int64
	start, end cu.Event
}

// close gives the events up.
func (t *timing) close() error {
	err := cu.DestroyEvent(&t.start)
	if e := cu.DestroyEvent(&t.end); err == nil {
		err = e
	}
	return err
}

// timed starts work on the stream, between events while the device is profiled.
func (d *Device) timed(name string, bytes, flops int64, start func() error) error {
	fail := func(err error) error { return fmt.Errorf("%s: %w", name, err) }
	if !d.profiling {
		if err := start(); err != nil {
			return fail(err)
		}
		return nil
	}
	t := timing{name: name, bytes: bytes, flops: flops}
	var err error
	if t.start, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
		return fail(err)
	}
	if t.end, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
		if e := cu.DestroyEvent(&t.start); e != nil {
			err = fmt.Errorf("%w, %w", err, e)
		}
		return fail(err)
	}
	d.timings = append(d.timings, t)
	for _, step := range []func() error{func() error { return t.start.Record(d.stream) }, start, func() error { return t.end.Record(d.stream) }} {
		if err := step(); err != nil {
			return fail(err)
		}
	}
	return nil
}

// StartProfile implements device.Profiler.
func (d *Device) StartProfile() {
	d.wait(func() error {
		d.profiling = true
		return d.dropTimings()
	})
}

// dropTimings forgets what was measured.
func (d *Device) dropTimings() error {
	for len(d.timings) > 0 {
		t := d.timings[len(d.timings)-1]
		d.timings = d.timings[:len(d.timings)-1]
		if err := t.close(); err != nil {
			return fmt.Errorf("destroy an event: %w", err)
		}
	}
	return nil
}

// Profile implements device.Profiler.
func (d *Device) Profile() (p device.Profile, err error) {
	byName := map[string]*device.KernelTime{}
	d.wait(func() error {
		d.profiling = false
		if err := d.finish(); err != nil {
			return err
		}
		for _, t := range d.timings {
			ms, err := t.start.Elapsed(t.end)
			if err != nil {
				return fmt.Errorf("time of %s: %w", t.name, err)
			}
			k := byName[t.name]
			if k == nil {
				k = &device.KernelTime{Name: t.name}
				byName[t.name] = k
			}
			k.Calls++
			k.Seconds += ms / 1000
			k.Bytes += t.bytes
			k.Flops += t.flops
		}
		if n := len(d.timings); n > 0 {
			ms, err := d.timings[0].start.Elapsed(d.timings[n-1].end)
			if err != nil {
				return fmt.Errorf("time of all: %w", err)
			}
			p.Seconds = ms / 1000
		}
		return d.dropTimings()
	})
	p.PeakBytes = d.arena.peak
	for _, k := range byName {
		p.Kernels = append(p.Kernels, *k)
	}
	slices.SortFunc(p.Kernels, func(a, b device.KernelTime) int {
		switch {
		case a.Seconds > b.Seconds:
			return -1
		case a.Seconds < b.Seconds:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return p, d.Err()
}

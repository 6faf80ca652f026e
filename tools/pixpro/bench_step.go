package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	processor "github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/options"
)

// stepBench is what "pixpro bench step" found.
type stepBench struct {
	Arch           string  `json:"arch"`
	Size           int     `json:"size"`
	Batch          int     `json:"batch"`
	Threads        int     `json:"threads"`
	MatrixProducts string  `json:"matrix_products"`
	SecondsPerStep float64 `json:"seconds_per_step"` // median
	PairsPerSecond float64 `json:"pairs_per_second"`
	GFLOPS         float64 `json:"gflops"`                        // billions of operations a second
	LimitGFLOPS    float64 `json:"limit_gflops"`                  // of large matrix products on the same threads
	LimitGBPerSec  float64 `json:"limit_gb_per_second,omitempty"` // of copies of memory, read and written, on the same threads
	PeakRSSBytes   int64   `json:"peak_rss_bytes"`

	Device string `json:"device"`
	// Of one step on a card, from its events, between which the card may be a
	// little slower.
	DeviceSecondsPerStep float64 `json:"device_seconds_per_step,omitempty"`
	DevicePeakBytes      int64   `json:"device_peak_bytes,omitempty"` // of tensors
	// Kernels are those of one step; on the processor, its operations.
	Kernels []kernelTime `json:"kernels,omitempty"`
}

// kernelTime is what one step spends in a kernel.
type kernelTime struct {
	Name        string  `json:"name"`
	Calls       int     `json:"calls"`
	Seconds     float64 `json:"seconds"`
	GBPerSecond float64 `json:"gb_per_second"`
	GFLOPS      float64 `json:"gflops"`
}

// stepFlags are those of a benchmark that makes training steps.
type stepFlags struct {
	options.Options
	steps  int
	asJSON bool
	plan   train.Plan // of a step, once open
}

func newStepFlags() *stepFlags {
	s := &stepFlags{Options: options.Default()}
	s.BatchSize = 8
	s.Output = "." // never written to
	return s
}

func (s *stepFlags) add(f *pflag.FlagSet, steps int, help string) {
	f.IntVar(&s.steps, "steps", steps, help)
	addOptions(f, &s.Options, benchOptions...)
	f.BoolVar(&s.asJSON, "json", false, "print the result as JSON")
}

// open checks the flags and opens their device.
func (s *stepFlags) open(ctx context.Context) (d device.Device, err error) {
	if s.steps < 1 {
		return nil, usageError{fmt.Errorf("--steps %d: must be positive", s.steps)}
	}
	if s.Threads == 0 {
		s.Threads = processor.Cores()
	}
	if s.plan, err = train.MakePlan(s.Options, int64(s.BatchSize)); err != nil {
		return nil, err
	}
	return openDevice(ctx, &s.Options)
}

func newBenchStep() *cobra.Command {
	o := newStepFlags()
	var profile string
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Time training steps on random views",
		Long: `Time whole training steps (forward, keys, backward, optimiser) on views without
meaning, and compare their operations a second with what large matrix products
reach on the same threads in the same run. A table has the operations of one step
more, or a card's kernels: how long each takes, how fast it computes and moves
memory and, on the processor, how near that is to large products or to copies of
memory, whichever lets it take longer. (Convolutions of 3 x 3 save arithmetic: they
may be above.) On a card, steps are made in three rounds, and waited for at the end
of each.`,
		Example: `  pixpro bench step --arch resnet50 --size 224 --batch 8
  pixpro bench step --arch resnet18 --size 96 --batch 16 --threads 2 --json
  pixpro bench step --arch resnet50 --size 224 --batch 128 --device cuda --precision bf16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			defer func() { err = asUsage(err) }()
			d, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			threads := o.Threads
			b := stepBench{Arch: o.Arch, Size: o.Size, Batch: o.BatchSize, Device: d.Name()}
			_, card := d.(device.Profiler)
			productLimit := matrixLimit
			if !card {
				b.Threads, b.MatrixProducts = threads, gemm.Name()
				b.LimitGBPerSec = copyLimit(threads)
				if o.Precision == device.BF16 && gemm.BFloat16() != nil {
					b.MatrixProducts, productLimit = gemm.BFloat16Name, pairLimit
				}
				b.LimitGFLOPS = productLimit(threads)
			}
			var times train.Times
			err = profiled(profile, func() (err error) {
				times, err = train.TimeSteps(d, o.Options, o.steps)
				return err
			})
			if err != nil {
				return err
			}
			if card {
				b.DeviceSecondsPerStep, b.DevicePeakBytes = times.Profile.Seconds, times.Profile.PeakBytes
			} else {
				b.LimitGFLOPS = max(b.LimitGFLOPS, productLimit(threads))
				b.LimitGBPerSec = max(b.LimitGBPerSec, copyLimit(threads))
			}
			b.Kernels = kernelTimes(times.Profile)
			b.SecondsPerStep = times.Steps[len(times.Steps)/2].Seconds()
			b.PairsPerSecond = float64(o.BatchSize) / b.SecondsPerStep
			b.GFLOPS = float64(o.plan.StepFlops) / b.SecondsPerStep / 1e9
			if b.PeakRSSBytes, err = peakRSS(); err != nil {
				return err
			}
			if card {
				return result(cmd, o.asJSON, b, cardTable(b, times.Steps, o.steps))
			}
			return result(cmd, o.asJSON, b, fmt.Sprintf(
				"%s, %d px, %d pairs a step, %d threads, matrix products by %s\n%.3f s a step (median of %d, fastest %.3f), %.2f pairs/s\n%.0f GFLOP/s, %.0f%% of the %.0f that large matrix products reach\n%d MiB at most\n\n%s",
				b.Arch, b.Size, b.Batch, b.Threads, b.MatrixProducts, b.SecondsPerStep, len(times.Steps), times.Steps[0].Seconds(), b.PairsPerSecond,
				b.GFLOPS, 100*b.GFLOPS/b.LimitGFLOPS, b.LimitGFLOPS, b.PeakRSSBytes>>20, operationTable(b)))
		},
	}
	o.add(cmd.Flags(), 5, "steps that are timed, after one that is not; on a card, those of a round")
	cmd.Flags().StringVar(&profile, "profile", "", "write a CPU profile of the steps to this `FILE`, for go tool pprof")
	return cmd
}

// profiled calls f, with a CPU profile of it in the file unless its name is empty.
func profiled(file string, f func() error) error {
	if file == "" {
		return f()
	}
	return atomicfile.WriteTo(file, func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		return f()
	})
}

// benchOptions are those of training that a step's time depends on.
var benchOptions = []string{"arch", "stem", "width", "method", "instance", "head-hidden", "head-dim", "size", "batch", "device", "precision", "threads"}

// openDevice opens a device, in the program that has it.
func openDevice(ctx context.Context, o *options.Options) (device.Device, error) {
	if err := chooseProgram(ctx, o.Device); err != nil {
		return nil, err
	}
	return train.OpenDevice(o, (&trainDisplay{}).show)
}

// kernelTimes is a profile with rates instead of amounts.
func kernelTimes(p device.Profile) []kernelTime {
	var list []kernelTime
	for _, k := range p.Kernels {
		t := kernelTime{Name: k.Name, Calls: k.Calls, Seconds: k.Seconds}
		if k.Seconds > 0 {
			t.GBPerSecond, t.GFLOPS = float64(k.Bytes)/k.Seconds/1e9, float64(k.Flops)/k.Seconds/1e9
		}
		list = append(list, t)
	}
	return list
}

// cardTable writes the result of a card.
func cardTable(b stepBench, rounds []time.Duration, steps int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %d px, %d pairs a step, %s\n%.4f s a step (median of %d rounds of %d, fastest %.4f; one step by events %.4f), %.1f pairs/s, %.0f GFLOP/s, %d MiB of tensors at most\n\n",
		b.Arch, b.Size, b.Batch, b.Device, b.SecondsPerStep, len(rounds), steps, rounds[0].Seconds(), b.DeviceSecondsPerStep, b.PairsPerSecond, b.GFLOPS, b.DevicePeakBytes>>20)
	var total float64
	for _, k := range b.Kernels {
		total += k.Seconds
	}
	fmt.Fprintf(&s, "%-28s %6s %10s %6s %8s %9s\n", "kernel", "calls", "ms a step", "share", "GB/s", "GFLOP/s")
	for _, k := range b.Kernels {
		fmt.Fprintf(&s, "%-28s %6d %10.3f %5.1f%% %8.0f %9.0f\n", k.Name, k.Calls, 1e3*k.Seconds, 100*k.Seconds/total, k.GBPerSecond, k.GFLOPS)
	}
	fmt.Fprintf(&s, "%-28s %6s %10.3f\n", "all", "", 1e3*total)
	return s.String()
}

// operationTable has the operations of one step on the processor, and how near each is to
// what its arithmetic at the rate of large products, or its bytes at the rate of copies,
// would take, whichever is longer.
func operationTable(b stepBench) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-44s %6s %10s %6s %9s %8s %9s\n", "operation", "calls", "ms a step", "share", "GFLOP/s", "GB/s", "of limit")
	var total float64
	for _, k := range b.Kernels {
		total += k.Seconds
	}
	for _, k := range b.Kernels {
		number := func(v float64, format string) string {
			if v == 0 {
				return "-"
			}
			return fmt.Sprintf(format, v)
		}
		limit := max(k.GFLOPS/b.LimitGFLOPS, k.GBPerSecond/b.LimitGBPerSec)
		fmt.Fprintf(&s, "%-44s %6d %10.1f %5.1f%% %9s %8s %9s\n", k.Name, k.Calls, 1e3*k.Seconds, 100*k.Seconds/total,
			number(k.GFLOPS, "%.0f"), number(k.GBPerSecond, "%.1f"), number(100*limit, "%.0f%%"))
	}
	fmt.Fprintf(&s, "%-44s %6s %10.1f          %9.0f %8.1f\n", "all; the limits", "", 1e3*total, b.LimitGFLOPS, b.LimitGBPerSec)
	return s.String()
}

// copyLimit measures the GB/s, read and written, of copies of memory that is far larger
// than caches, one on each thread.
func copyLimit(threads int) float64 {
	const floats, least = 16 << 20, 200 * time.Millisecond
	rates := make([]float64, threads)
	parallel.For(threads, threads, func(i int) {
		from, to := make([]float32, floats), make([]float32, floats)
		for i := range from {
			from[i] = 1 // else it would be one page of zeros
		}
		copy(to, from)
		copies := 0
		start := time.Now()
		for ; time.Since(start) < least; copies++ {
			copy(to, from)
		}
		rates[i] = float64(copies) * 8 * floats / time.Since(start).Seconds() / 1e9
	})
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum
}

// matrixLimit measures the GFLOP/s of large matrix products, one on each
// thread, for half a second.
func matrixLimit(threads int) float64 {
	const n = 768
	return productRate(threads, 2*n*n*n, func() func() {
		a, b, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
		return func() { gemm.Mul(false, true, n, n, n, a, n, b, n, false, c, n) }
	})
}

// pairLimit is matrixLimit of bfloat16, of which there are tiles alone: in the caches.
func pairLimit(threads int) float64 {
	k := gemm.BFloat16()
	const depth, tiles = 256, 8
	return productRate(threads, 2*2*tiles*depth*float64(k.MR*k.NR), func() func() {
		a, b, c := make([]float32, tiles*k.MR*(depth+gemm.Apart)), make([]float32, depth*k.NR), make([]float32, k.MR*k.NR)
		rows := make([]*float32, tiles*k.MR)
		for i := range rows {
			rows[i] = &a[i*(depth+gemm.Apart)]
		}
		return func() {
			for t := range tiles {
				k.Rows(rows[t*k.MR:], 1, depth, b, c, k.NR, k.MR, k.NR, false)
			}
		}
	})
}

// productRate measures the GFLOP/s of a product that each thread makes for itself.
func productRate(threads int, flops float64, begin func() func()) float64 {
	const least = 500 * time.Millisecond
	rates := make([]float64, threads)
	parallel.For(threads, threads, func(i int) {
		product, products := begin(), 0
		start := time.Now()
		for ; time.Since(start) < least; products++ {
			product()
		}
		rates[i] = float64(products) * flops / time.Since(start).Seconds() / 1e9
	})
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum
}

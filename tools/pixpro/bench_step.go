package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	processor "github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
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
	GFLOPS         float64 `json:"gflops"`       // billions of operations a second
	LimitGFLOPS    float64 `json:"limit_gflops"` // of large matrix products on the same threads
	PeakRSSBytes   int64   `json:"peak_rss_bytes"`
}

func newBenchStep() *cobra.Command {
	cfg := train.Default()
	cfg.BatchSize = 8
	cfg.Output = "." // never written to
	var steps, threads int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Time training steps on random views",
		Long: `Time whole training steps (forward, keys, backward, optimiser) on views without
meaning, and compare their operations a second with what large matrix products
reach on the same threads in the same run.`,
		Example: `  pixpro bench step --arch resnet50 --size 224 --batch 8
  pixpro bench step --arch resnet18 --size 96 --batch 16 --threads 2 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if steps < 1 {
				return usageError{fmt.Errorf("--steps %d: must be positive", steps)}
			}
			if threads <= 0 {
				threads = processor.Cores()
			}
			plan, err := train.MakePlan(cfg, int64(cfg.BatchSize))
			if err != nil {
				return usageError{err}
			}
			b := stepBench{Arch: cfg.Arch, Size: cfg.Size, Batch: cfg.BatchSize, Threads: threads, MatrixProducts: gemm.Name()}
			b.LimitGFLOPS = matrixLimit(threads)
			d := cpu.New(threads)
			defer d.Close()
			times, err := train.TimeSteps(d, cfg, steps)
			if err != nil {
				return err
			}
			b.LimitGFLOPS = max(b.LimitGFLOPS, matrixLimit(threads))
			b.SecondsPerStep = times[len(times)/2].Seconds()
			b.PairsPerSecond = float64(cfg.BatchSize) / b.SecondsPerStep
			b.GFLOPS = float64(plan.StepFlops) / b.SecondsPerStep / 1e9
			if b.PeakRSSBytes, err = peakRSS(); err != nil {
				return err
			}
			return result(cmd, asJSON, b, fmt.Sprintf(
				"%s, %d px, %d pairs a step, %d threads, matrix products by %s\n%.3f s a step (median of %d, fastest %.3f), %.2f pairs/s\n%.0f GFLOP/s, %.0f%% of the %.0f that large matrix products reach\n%d MiB at most\n",
				b.Arch, b.Size, b.Batch, b.Threads, b.MatrixProducts, b.SecondsPerStep, len(times), times[0].Seconds(), b.PairsPerSecond,
				b.GFLOPS, 100*b.GFLOPS/b.LimitGFLOPS, b.LimitGFLOPS, b.PeakRSSBytes>>20))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Arch, "arch", cfg.Arch, "architecture, see train --help")
	f.StringVar(&cfg.Stem, "stem", cfg.Stem, "imagenet, nopool or small")
	f.Float64Var(&cfg.Width, "width", cfg.Width, "factor of the encoder's channels")
	f.StringVar(&cfg.Method, "method", cfg.Method, "pixpro, pixcontrast or instance")
	f.StringVar(&cfg.Instance, "instance", cfg.Instance, "none, byol or simclr")
	f.IntVar(&cfg.Size, "size", cfg.Size, "side of a view in pixels")
	f.IntVar(&cfg.BatchSize, "batch", cfg.BatchSize, "pairs of views in a step")
	f.IntVar(&steps, "steps", 5, "steps that are timed, after one that is not")
	f.IntVar(&threads, "threads", 0, "threads that compute (default: one a core)")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// matrixLimit measures the GFLOP/s of large matrix products, one on each
// thread, for half a second.
func matrixLimit(threads int) float64 {
	const n, least = 768, 500 * time.Millisecond
	rates := make([]float64, threads)
	parallel.For(threads, threads, func(i int) {
		a, b, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
		products := 0
		start := time.Now()
		for ; time.Since(start) < least; products++ {
			gemm.Mul(false, true, n, n, n, a, n, b, n, false, c, n)
		}
		rates[i] = float64(products) * 2 * n * n * n / time.Since(start).Seconds() / 1e9
	})
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum
}

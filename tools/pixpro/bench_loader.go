package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/spf13/cobra"

	processor "github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/options"
)

// loaderBench is what bench loader measures.
type loaderBench struct {
	PairsPerSecond float64 `json:"pairs_per_second"`
	PeakRSSBytes   int64   `json:"peak_rss_bytes"` // of the whole process
	Bottleneck     string  `json:"bottleneck"`

	Pairs   int64   `json:"pairs"`
	Bad     int64   `json:"bad"`
	Seconds float64 `json:"seconds"`
	Recipe  string  `json:"recipe"`
	Size    int     `json:"size"`
	Batch   int     `json:"batch"`
	DType   string  `json:"dtype"`
	Shuffle string  `json:"shuffle"`
	Workers int     `json:"workers"`
	Device  string  `json:"device,omitempty"` // that the views went up to

	Stages []benchStage   `json:"stages"`
	Waits  []benchWait    `json:"waits"`
	Queues []benchQueue   `json:"queues"`
	Scale  *loaderScaling `json:"scaling,omitempty"`
}

// benchStage is the work of one stage.
type benchStage struct {
	Name               string  `json:"name"`
	Goroutines         int     `json:"goroutines"`
	MillisecondsAPair  float64 `json:"milliseconds_a_pair"`
	BusyPartOfTheStage float64 `json:"busy"` // of its goroutines' time
}

// benchWait is a stage that waits for another.
type benchWait struct {
	Who     string  `json:"who"`
	ForWhom string  `json:"for"`
	Part    float64 `json:"part"` // of its goroutines' time
}

type benchQueue struct {
	Name string  `json:"name"`
	Mean float64 `json:"mean"` // when something was taken out
	Cap  int     `json:"cap"`
}

// loaderScaling compares all workers with one, and with what a loop without
// memory gains from as many cores: the most that the machine has to give.
type loaderScaling struct {
	Workers           int     `json:"workers"`
	OneWorker         float64 `json:"pairs_per_second_one_worker"`
	AllWorkers        float64 `json:"pairs_per_second_all_workers"`
	LoaderTimes       float64 `json:"loader_times"`
	SpinLoopTimes     float64 `json:"spin_loop_times"`
	Rounds            int     `json:"rounds"`
	PartOfTheSpinLoop float64 `json:"part_of_the_spin_loop"`
}

func newBenchLoader() *cobra.Command {
	var (
		views   viewFlags
		loader  loaderFlags
		pairs   int64
		warmUp  int64
		scaling bool
		asJSON  bool
		target  = options.Default()
	)
	cmd := &cobra.Command{
		Use:   "loader --shards DIR",
		Short: "Measure the pipeline from shards to record batches",
		Long: `Run the pipeline as augment and train do, with a consumer that does nothing, and
print its speed, where the time goes, who waits for whom and which stage the
others wait for.

With --device, the consumer writes each batch's views to the memory of a device,
normalised as training has them: it then waits for data as long as a device would
that computes nothing.

With --scaling, one worker and all workers are measured in turns, beside a loop
that does nothing but count, which tells how much more the machine gives to as
many goroutines.`,
		Example: `  pixpro bench loader --shards shards/
  pixpro bench loader --shards shards/ --workers 2 --pairs 2000 --json
  pixpro bench loader --shards shards/ --workers 2 --scaling
  pixpro bench loader --shards shards/ --device cuda --precision bf16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			if pairs < 1 || warmUp < 0 {
				return usageError{fmt.Errorf("--pairs %d --warm-up %d: use at least 1 and 0", pairs, warmUp)}
			}
			cfg := pipeline.Config{KeepLast: true}
			loader.apply(&cfg)
			cfg, dataset, err := views.open(cfg)
			if err != nil {
				return err
			}
			defer dataset.Close()
			if cfg.Workers == 0 {
				cfg.Workers = processor.Cores()
			}
			if scaling && cfg.Workers < 2 {
				return usageError{fmt.Errorf("--scaling compares one worker with more: --workers is %d", cfg.Workers)}
			}
			var up *uploader
			if cmd.Flags().Changed("device") {
				if cfg.DType == pipeline.Float32 {
					return usageError{errors.New("--dtype float32: a device takes views of bytes")}
				}
				d, err := openDevice(cmd.Context(), &target)
				if err != nil {
					return asUsage(err)
				}
				defer func() { err = errors.Join(err, d.Close()) }()
				up = &uploader{device: d}
			}
			stats, err := runLoader(cmd.Context(), cfg, warmUp, pairs, up)
			if err != nil {
				return err
			}
			b := newLoaderBench(cfg, stats, up)
			if b.PeakRSSBytes, err = peakRSS(); err != nil {
				return err
			}
			if scaling {
				if b.Scale, err = measureScaling(cmd.Context(), cfg, warmUp, pairs, up); err != nil {
					return err
				}
			}
			return result(cmd, asJSON, b, b.table())
		},
	}
	f := cmd.Flags()
	views.add(f)
	loader.add(f)
	f.Int64Var(&pairs, "pairs", 1000, "pairs to measure, rounded up to whole batches")
	f.Int64Var(&warmUp, "warm-up", 320, "pairs before that")
	addOptions(f, &target, "device", "precision")
	f.Lookup("device").Usage = "write views to this device's memory: auto, cpu, cuda (the first card) or cuda:N (default: nowhere)"
	f.Lookup("device").DefValue = ""
	f.Lookup("precision").Usage = "of its views there"
	f.BoolVar(&scaling, "scaling", false, "compare one worker with all workers")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// uploader writes views to a device.
type uploader struct {
	device device.Device
	took   time.Duration // of the consumer's time
}

func (u *uploader) use(r arrow.Record) error {
	start := time.Now()
	b, err := pipeline.NewBatch(r)
	if err != nil {
		return err
	}
	views := u.device.AllocActivation(2*b.Len(), b.Size(), b.Size(), 3)
	n := pipeline.ImageNet()
	u.device.UploadViews(views, [2][]uint8{b.Views(0), b.Views(1)}, n.Mean, n.Std)
	u.device.Free(views)
	u.took += time.Since(start)
	return u.device.Err()
}

// runLoader consumes pairs after some that warm up, and returns what was done
// for the former. up may be nil.
func runLoader(ctx context.Context, cfg pipeline.Config, warmUp, pairs int64, up *uploader) (pipeline.Stats, error) {
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return pipeline.Stats{}, err
	}
	defer p.Close()
	consume := func(pairs int64) (pipeline.Stats, error) {
		for before := p.Stats().Pairs; p.Stats().Pairs-before < pairs; {
			if !p.Next() {
				return pipeline.Stats{}, p.Err()
			}
			if up != nil {
				if err := up.use(p.Record()); err != nil {
					return pipeline.Stats{}, err
				}
			}
		}
		if up != nil {
			if err := up.device.Sync(); err != nil {
				return pipeline.Stats{}, err
			}
		}
		return p.Stats(), nil
	}
	before, err := consume(warmUp)
	if err != nil {
		return before, err
	}
	if up != nil {
		up.took = 0
	}
	after, err := consume(pairs)
	return after.Since(before), err
}

func newLoaderBench(cfg pipeline.Config, s pipeline.Stats, up *uploader) *loaderBench {
	share := func(d time.Duration, goroutines int) float64 {
		return d.Seconds() / s.Elapsed.Seconds() / float64(goroutines)
	}
	stage := func(name string, d time.Duration, goroutines int) benchStage {
		return benchStage{name, goroutines, 1e3 * d.Seconds() / float64(s.Pairs), share(d, goroutines)}
	}
	b := &loaderBench{
		PairsPerSecond: s.PairsPerSecond(),
		Bottleneck:     string(s.Bottleneck()),
		Pairs:          s.Pairs,
		Bad:            s.Bad,
		Seconds:        s.Elapsed.Seconds(),
		Recipe:         cfg.Recipe.Name,
		Size:           cfg.Size,
		Batch:          cfg.BatchSize,
		DType:          string(cfg.DType),
		Shuffle:        string(cfg.Shuffle),
		Workers:        s.Workers,
		Stages: []benchStage{
			stage("read", s.Read, s.Readers),
			stage("decode", s.Decode, s.Workers),
			stage("views", s.Views, s.Workers),
			stage("batch", s.Batch, 1),
		},
		Waits: []benchWait{
			{"readers", "workers", share(s.ReadersWait, s.Readers)},
			{"workers", "readers", share(s.WorkersWait, s.Workers)},
			{"consumer", "workers", share(s.ConsumerWait, 1)},
			{"pipeline", "consumer", share(s.BatchWait, 1)},
		},
		Queues: []benchQueue{
			{"to read", s.ReadQueue.Mean(), s.ReadQueue.Cap},
			{"to decode and augment", s.ViewQueue.Mean(), s.ViewQueue.Cap},
			{"batches begun", s.BatchQueue.Mean(), s.BatchQueue.Cap},
		},
	}
	if up != nil {
		b.Device = up.device.Name()
		b.Stages = append(b.Stages, stage("upload", up.took, 1))
	}
	return b
}

// table is the measurement for people.
func (b *loaderBench) table() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%.1f pairs/s: %d pairs in %.1f s, %s, %d px, %s, batches of %d, order %s, %d workers\n",
		b.PairsPerSecond, b.Pairs, b.Seconds, b.Recipe, b.Size, b.DType, b.Batch, b.Shuffle, b.Workers)
	if b.Device != "" {
		fmt.Fprintf(&text, "into the memory of %s\n", b.Device)
	}
	fmt.Fprintf(&text, "%.0f MiB of memory at most, %d bad images\n\n", float64(b.PeakRSSBytes)/(1<<20), b.Bad)
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "stage\tgoroutines\tms/pair\tbusy\t\n")
	for _, s := range b.Stages {
		fmt.Fprintf(w, "%s\t%d\t%.3f\t%.0f%%\t\n", s.Name, s.Goroutines, s.MillisecondsAPair, 100*s.BusyPartOfTheStage)
	}
	w.Flush()
	text.WriteString("\n")
	for _, wait := range b.Waits {
		fmt.Fprintf(&text, "%-8s waits for %-8s %5.1f%% of the time\n", wait.Who, wait.ForWhom, 100*wait.Part)
	}
	text.WriteString("\n")
	for _, q := range b.Queues {
		fmt.Fprintf(&text, "queue %-22s %5.1f of %d on average\n", q.Name+":", q.Mean, q.Cap)
	}
	fmt.Fprintf(&text, "\nbottleneck: %s\n", b.Bottleneck)
	if s := b.Scale; s != nil {
		fmt.Fprintf(&text, "\n%d workers: %.1f pairs/s, one: %.1f: %.2f times, where a spin loop gets %.2f times (%.0f%% of that; medians of %d rounds)\n",
			s.Workers, s.AllWorkers, s.OneWorker, s.LoaderTimes, s.SpinLoopTimes, 100*s.PartOfTheSpinLoop, s.Rounds)
	}
	return text.String()
}

// measureScaling measures one worker and all workers in turns, each right after
// a spin loop on as many goroutines.
func measureScaling(ctx context.Context, cfg pipeline.Config, warmUp, pairs int64, up *uploader) (*loaderScaling, error) {
	const rounds = 3
	all := cfg.Workers
	spins, speeds := map[int][]float64{}, map[int][]float64{}
	for range rounds {
		for _, workers := range []int{1, all} {
			spins[workers] = append(spins[workers], spin(workers))
			cfg.Workers = workers
			stats, err := runLoader(ctx, cfg, warmUp, pairs, up)
			if err != nil {
				return nil, err
			}
			speeds[workers] = append(speeds[workers], stats.PairsPerSecond())
		}
	}
	s := &loaderScaling{
		Workers: all, Rounds: rounds,
		OneWorker: median(speeds[1]), AllWorkers: median(speeds[all]),
		SpinLoopTimes: median(spins[all]) / median(spins[1]),
	}
	s.LoaderTimes = s.AllWorkers / s.OneWorker
	s.PartOfTheSpinLoop = s.LoaderTimes / s.SpinLoopTimes
	return s, nil
}

// spin counts for half a second on so many goroutines and returns turns a second.
func spin(goroutines int) float64 {
	const length = 500 * time.Millisecond
	counts := make([]uint64, goroutines)
	var wg sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			turns, state := uint64(0), uint64(g+1)
			for time.Since(start) < length {
				for range 1 << 16 { // xorshift: nothing that a compiler could leave out
					state ^= state << 13
					state ^= state >> 7
					state ^= state << 17
				}
				turns++
			}
			runtime.KeepAlive(state)
			counts[g] = turns
		})
	}
	wg.Wait()
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

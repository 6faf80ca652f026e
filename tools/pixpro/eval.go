package main

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	processor "github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

func newEval() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Measure what features are worth at every pixel",
		Long: `Measure what an encoder's features are worth at every pixel, without a
detection framework. docs/evaluation.md says what each number means.`,
		Example: `  pixpro eval segment --checkpoint run/ --untrained --train images/ --masks masks/ --val val/ --val-masks val-masks/
  pixpro eval cluster --checkpoint run/ --val val/ --val-masks val-masks/
  pixpro eval knn --checkpoint run/ --train shards/ --val val-shards/
  pixpro eval match --checkpoint run/ --shards shards/ --pairs 500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEvalSegment(), newEvalCluster(), newEvalKNN(), newEvalMatch())
	return cmd
}

// encoderFlags are the flags of commands that compare encoders.
type encoderFlags struct {
	checkpoints, inits []string
	untrained          bool
	which, arch, stem  string
	width              float64
	size, stage        int
	threads            int
	seed               uint64
}

func (e *encoderFlags) add(f *pflag.FlagSet) {
	e.addWeights(f)
	f.IntVar(&e.size, "size", 0, "side in pixels that images are resized to (default: the first checkpoint's views, else 224)")
	f.Uint64Var(&e.seed, "seed", 0, "seed of random weights and of all other choices")
}

// addWeights adds the flags that say which encoders, of which stage.
func (e *encoderFlags) addWeights(f *pflag.FlagSet) {
	preset := options.Default()
	f.StringArrayVar(&e.checkpoints, "checkpoint", nil, "checkpoint, training output (then its latest), or file of weights; may repeat")
	f.BoolVar(&e.untrained, "untrained", false, "compare with random weights of the first checkpoint's architecture")
	f.StringArrayVar(&e.inits, "init", nil, "compare with a file of weights, such as supervised ones; may repeat")
	f.StringVar(&e.which, "which", "encoder", "encoder or key-encoder")
	f.StringVar(&e.arch, "arch", preset.Arch, "architecture of files of weights, and of --untrained without a checkpoint")
	f.StringVar(&e.stem, "stem", preset.Stem, "stem of these")
	f.Float64Var(&e.width, "width", preset.Width, "factor of the channels of these")
	f.IntVar(&e.stage, "stage", model.Stages, "stage whose features are taken: 4 (the last) or 3, 2, 1")
	f.IntVar(&e.threads, "threads", 0, "threads that compute (default: one a core); results are the same for any number")
}

// encoderSource is where one of the compared encoders comes from.
type encoderSource struct {
	name   string
	resnet model.ResNet
	size   int                  // of the views that it was trained on; 0 if unknown
	step   int64                // of a checkpoint
	weight []safetensors.Tensor // nil: random
}

// sources reads all weights, so that what is wrong is told before the work, and
// sets the size of images. Checkpoints come first, random weights last.
func (e *encoderFlags) sources() ([]encoderSource, error) {
	if err := checkEncoder(e.which, e.stage, e.size, e.threads); err != nil {
		return nil, err
	}
	if len(e.checkpoints)+len(e.inits) == 0 && !e.untrained {
		return nil, usageError{fmt.Errorf("name weights with --checkpoint or --init, or ask for --untrained ones")}
	}
	resnet, err := model.Lookup(e.arch, e.stem, e.width)
	if err != nil {
		return nil, usageError{err}
	}
	var all []encoderSource
	for i, path := range append(append([]string(nil), e.checkpoints...), e.inits...) {
		w, err := train.ReadWeights(path)
		if err != nil {
			return nil, err
		}
		s := encoderSource{name: filepath.ToSlash(filepath.Clean(path)), resnet: resnet}
		if c := w.Checkpoint; c != nil {
			if s.resnet, err = model.Lookup(c.Options.Arch, c.Options.Stem, c.Options.Width); err != nil {
				return nil, fmt.Errorf("%s: %w", w.Path, err)
			}
			s.size, s.step = c.Options.Size, c.State.Step
		}
		if s.weight, err = w.Encoder(e.which == "key-encoder" && i < len(e.checkpoints)); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if e.untrained {
		s := encoderSource{name: "untrained", resnet: resnet}
		if len(e.checkpoints) > 0 {
			s.resnet, s.size = all[0].resnet, all[0].size
		}
		all = append(all, s)
	}
	if e.size == 0 {
		e.size = all[0].size
	}
	if e.size == 0 {
		e.size = options.Default().Size
	}
	return all, nil
}

// workers is the number of goroutines that compute.
func (e *encoderFlags) workers() int {
	if e.threads > 0 {
		return e.threads
	}
	return processor.Cores()
}

// open builds an extractor of the source's features for so many images, and
// what frees it.
func (e *encoderFlags) open(s encoderSource, images int) (*evaluate.Extractor, func(), error) {
	var devices []*cpu.Device
	free := func() {
		for _, d := range devices {
			d.Close()
		}
	}
	encoders := make([]*train.Encoder, min(e.workers(), images))
	for i := range encoders {
		d := cpu.New(1)
		devices = append(devices, d)
		if s.weight == nil {
			encoders[i] = train.RandomEncoder(d, s.resnet, e.seed)
			continue
		}
		var err error
		if encoders[i], err = train.NewEncoder(d, s.resnet, s.weight); err != nil {
			free()
			return nil, nil, fmt.Errorf("%s (another --arch, --stem or --width?): %w", s.name, err)
		}
	}
	return evaluate.NewExtractor(encoders, e.stage), free, nil
}

// counter shows a progress bar of n images. step counts one and may be called
// from several goroutines.
func counter(what string, n int) (step, finish func()) {
	bar := newProgress(what, int64(n), false)
	var done atomic.Int64
	shown := make(chan struct{}, 1) // holds the right to draw
	step = func() {
		now := done.Add(1)
		select {
		case shown <- struct{}{}:
			bar.set(now, int64(n), "")
			<-shown
		default: // another goroutine is drawing
		}
	}
	return step, bar.finish
}

// table lays rows out in columns; the first row is the head.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // a strings.Builder takes everything
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// percent writes a fraction as the field's tables do.
func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*v)
}

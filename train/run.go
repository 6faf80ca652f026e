package train

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	_ "github.com/seed-436d2970/pixpro/train/device/cpu" // which every machine has
	"github.com/seed-436d2970/pixpro/train/options"
)

// Run trains as the options say, from a folder of shards to the last checkpoint:
// it opens the dataset, the device and a pipeline between them, resumes, trains,
// saves, and draws the loss curve, LossFile in the output. It returns the
// metrics of the last step that is in metrics.jsonl.
//
// When ctx is cancelled it stops after the present step, saves a checkpoint, and
// returns the context's error. Options that cannot be used are an
// *options.Error. The output has one run at a time: a second one fails, or waits
// as Options.Wait says.
//
// Devices other than the processor are found by name once their packages are
// imported, such as train/device/cuda. For pairs from elsewhere than shards, see New and Trainer.Run.
func Run(ctx context.Context, o Options, l Listener) (last Metrics, err error) {
	if err := o.Validate(); err != nil {
		return last, fmt.Errorf("train: %w", err)
	}
	held, err := lockOutput(ctx, checkpoint.OS, &o, l)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	dataset, err := openDataset(&o)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, dataset.Close()) }()
	recipe, err := o.ReadRecipe()
	if err != nil {
		return last, fmt.Errorf("train: %w", err)
	}
	d, err := OpenDevice(&o, l)
	if err != nil {
		return last, fmt.Errorf("train: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	t, err := New(d, o, l)
	if err != nil {
		return last, err
	}
	t.lock = held
	if err := t.checkDataset(dataset.Digest()); err != nil { // before its size does not fit the position
		return last, fmt.Errorf("train: %w", err)
	}
	// Cancelling ctx ends the trainer's loop, which closes the pipeline here.
	p, err := pipeline.Open(context.WithoutCancel(ctx), pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: o.Size, BatchSize: o.BatchSize, Seed: o.Seed,
		Epochs: o.Epochs, Workers: o.Workers, Limits: decode.Limits{MaxPixels: int64(o.MaxPixels), MaxTime: o.MaxDecodeTime}, Start: t.Position(), Listener: l,
	})
	if err != nil {
		return last, fmt.Errorf("train: %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	err = t.Run(ctx, p)
	metrics, metricsErr := ReadMetrics(o.Output)
	if metricsErr != nil || len(metrics) == 0 {
		return last, errors.Join(err, metricsErr)
	}
	return metrics[len(metrics)-1], errors.Join(err, drawLoss(&o, metrics))
}

// PlanRun is MakePlan for the dataset that the options name.
func PlanRun(o Options) (Plan, error) {
	if err := o.Validate(); err != nil {
		return Plan{}, fmt.Errorf("train: %w", err)
	}
	dataset, err := openDataset(&o)
	if err != nil {
		return Plan{}, err
	}
	p, err := MakePlan(o, dataset.Len())
	return p, errors.Join(err, dataset.Close())
}

// openDataset opens a run's dataset, which must fill a batch.
func openDataset(o *Options) (*shards.Dataset, error) {
	dataset, err := shards.Open(o.Shards)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if n := dataset.Len(); n < int64(o.BatchSize) {
		err := &options.Error{Name: "batch", Value: fmt.Sprint(o.BatchSize), Want: fmt.Sprintf("%s has only %d images", o.Shards, n)}
		return nil, errors.Join(fmt.Errorf("train: %w", err), dataset.Close())
	}
	return dataset, nil
}

// cardKind is the kind of device that options.Auto looks for.
const cardKind = "cuda"

// OpenDevice opens the device that the options name. For options.Auto that is
// the first card; if none can be used, the processor, and l gets NoCard.
func OpenDevice(o *Options, l Listener) (device.Device, error) {
	c := device.Config{Precision: o.Precision, Threads: o.Threads}
	if o.Device != options.Auto {
		return device.Open(o.Device, c)
	}
	d, noCard := device.Open(cardKind, c)
	if noCard == nil {
		return d, nil
	}
	if o.Precision == device.TF32 {
		return nil, fmt.Errorf("%w: %w", &options.Error{Name: "precision", Value: string(o.Precision), Want: "there is no card that can be used, and the processor computes in fp32 or bf16 only"}, noCard)
	}
	l.Tell(NoCard{noCard})
	return device.Open("cpu", c)
}

// LossFile is the name of the picture of the loss in a training output.
const LossFile = "loss.png"

// drawLoss draws the curve of all steps so far.
func drawLoss(o *Options, metrics []Metrics) error {
	curve := figure.Curve{Title: fmt.Sprintf("%s, %s, %d px", o.Method, o.Arch, o.Size)}
	for _, m := range metrics {
		curve.Steps = append(curve.Steps, float64(m.Step))
		curve.Loss = append(curve.Loss, m.Loss)
		curve.Rate = append(curve.Rate, m.LearningRate)
	}
	f, err := atomicfile.Create(filepath.Join(o.Output, LossFile))
	if err != nil {
		return fmt.Errorf("train: loss curve: %w", err)
	}
	defer f.Close()
	if err := figure.Loss(f, curve); err != nil {
		return fmt.Errorf("train: loss curve: %w", err)
	}
	return f.Commit()
}

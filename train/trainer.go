package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/optim"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Options is everything that decides a run; DefaultOptions fills it in.
type Options = options.Options

// DefaultOptions is the paper's setting for PixPro, with a batch for one machine.
func DefaultOptions() Options { return options.Default() }

// Source yields record batches of view pairs; *pipeline.Pipeline is one. Its
// views must be of the run's size, and uint8, in batches of the run's size at
// most.
type Source interface {
	Schema() *arrow.Schema
	Next() bool
	Record() arrow.Record
	Err() error
	// Position is where the stream goes on after the batches so far.
	Position() pipeline.Position
	// BatchesPerEpoch and PairsPerEpoch describe a whole epoch.
	BatchesPerEpoch() int64
	PairsPerEpoch() int64
	// Dataset and Recipe say what the pairs are made of; a run is resumed on
	// the same ones only.
	Dataset() string
	Recipe() augment.Recipe
}

// Trainer is a training run.
type Trainer struct {
	cfg     Options
	listen  Listener
	engine  *engine
	resumed *checkpoint.Checkpoint // nil for a new run
	init    *InitReport            // nil for a run that is resumed or starts at random

	normalization pipeline.Normalization // of the source's views

	step     int64 // done
	partial  bool  // the model has learnt from a part of the next step
	position pipeline.Position
	saved    int64           // step of the output's last checkpoint, 0 for none
	sound    map[string]bool // of checkpoints in the output that were looked at
	savedAt  time.Time
	events   *eventWriter
	pictured int64          // epochs, counted from 1, whose views are among the events
	metrics  *metricsWriter // while Run runs
	files    checkpoint.FS

	lock   *lock.Lock // of the output, if Run has it from its caller
	before []string   // the output's checkpoints when New looked
}

// New builds the run that the options describe on d. The listener is told of
// what happens in New and in Run.
func New(d device.Device, o Options, l Listener) (*Trainer, error) {
	cfg := o.Clone()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	names, err := checkpoint.Names(cfg.Output)
	if err != nil {
		return nil, fmt.Errorf("train: output: %w", err)
	}
	found, err := findCheckpoint(&cfg, names, func(err error) { l.Tell(UnsoundCheckpoint{err}) })
	if err != nil {
		return nil, err
	}
	e, err := newEngine(d, &cfg)
	if err != nil {
		return nil, err
	}
	t := &Trainer{cfg: cfg, listen: l, engine: e, before: names, sound: map[string]bool{}, savedAt: time.Now(), files: checkpoint.OS}
	if found != nil {
		if err := t.restore(found); err != nil {
			return nil, fmt.Errorf("train: resume from %s: %w", found.Dir, err)
		}
	} else if cfg.Init != "" {
		if t.init, err = initialise(e.model, d, cfg.Init); err != nil {
			return nil, err
		}
	}
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("train: set up the model: %w", explain(&cfg, err))
	}
	return t, nil
}

// findCheckpoint returns the checkpoint to go on from, nil for a new run. names
// are those of the output's checkpoints.
func findCheckpoint(cfg *Options, names []string, unsound func(error)) (*checkpoint.Checkpoint, error) {
	switch cfg.Resume {
	case "":
		if len(names) > 0 {
			return nil, fmt.Errorf("train: output %s has checkpoints of another run: continue it with resume auto, or choose an empty folder", cfg.Output)
		}
		return nil, nil
	case options.Auto:
		return wrapped(checkpoint.Newest(cfg.Output, unsound))
	}
	found, err := wrapped(checkpoint.Open(cfg.Resume))
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		if !own(cfg.Output, found.Dir) {
			return nil, fmt.Errorf("train: output %s has checkpoints of another run than %s to resume from: choose an empty output", cfg.Output, found.Dir)
		}
		if last := names[len(names)-1]; checkpoint.CompareSteps(last, checkpoint.StepName(found.State.Step)) > 0 {
			return nil, fmt.Errorf("train: output %s has %s, later than %s to resume from: choose another output", cfg.Output, last, found.Dir)
		}
	}
	return found, nil
}

// wrapped says that an error is of a run.
func wrapped(c *checkpoint.Checkpoint, err error) (*checkpoint.Checkpoint, error) {
	if err != nil {
		err = fmt.Errorf("train: %w", err)
	}
	return c, err
}

// own says whether a checkpoint lies in a training output.
func own(output, dir string) bool {
	root, err := os.Stat(filepath.Join(output, checkpoint.Folder))
	if err != nil {
		return false
	}
	above, err := os.Stat(filepath.Dir(filepath.Clean(dir)))
	return err == nil && os.SameFile(root, above)
}

func (t *Trainer) restore(c *checkpoint.Checkpoint) error {
	if st := c.State; st.Step < 0 || st.Position.Epoch < 0 || st.Position.Offset < 0 || st.Position.Offset > st.Samples || st.Position.Bad < 0 || st.Position.Bad > st.Position.Offset {
		return fmt.Errorf("%w: %s has step %d, position %+v of %d samples", checkpoint.ErrUnsound, checkpoint.StateFile, st.Step, st.Position, st.Samples)
	}
	if diff := t.cfg.Differences(&c.Options); len(diff) > 0 {
		return fmt.Errorf("the configuration does not fit: %s", strings.Join(diff, "; "))
	}
	tensors, err := c.Model()
	if err != nil {
		return err
	}
	if err := t.engine.model.Load(tensors.Tensor); err != nil {
		return err
	}
	buffers, err := c.Optimizer()
	if err != nil {
		return err
	}
	err = t.engine.optimizer.Load(func(p *nn.Parameter) ([]float32, error) {
		values, err := p.Match(buffers.Tensor)
		if err != nil {
			return nil, fmt.Errorf("%w: momentum in %s: %w", checkpoint.ErrUnsound, checkpoint.OptimizerFile, err)
		}
		return values, nil
	})
	if err != nil {
		return err
	}
	t.resumed, t.step, t.position = c, c.State.Step, c.State.Position
	if own(t.cfg.Output, c.Dir) {
		t.saved = t.step
		t.sound[filepath.Base(c.Dir)] = true
	}
	return nil
}

// Resumed is the checkpoint that the run goes on from, nil if it is new.
func (t *Trainer) Resumed() *checkpoint.Checkpoint { return t.resumed }

// Finished says whether the run that is resumed had already come to its end.
func (t *Trainer) Finished() bool {
	r := t.resumed
	return r != nil && (t.position.Epoch >= int64(t.cfg.Epochs) || t.cfg.Epochs == r.Options.Epochs && t.step == r.State.Schedule.Steps)
}

// InitReport says what a new run took from the file that it starts from, nil if
// there is none.
func (t *Trainer) InitReport() *InitReport { return t.init }

// Position is where the run's stream of batches must go on.
func (t *Trainer) Position() pipeline.Position { return t.position }

// Model is the model in training.
func (t *Trainer) Model() *method.Model { return t.engine.model }

// Run trains on the batches of src, which must begin at Position, until it
// ends. When ctx is cancelled the run stops after the present step, saves a
// checkpoint, and returns the context's error.
//
// Meanwhile the output is locked. If another run has it, Run waits for it as the
// options say, and fails if the other one has saved since New.
func (t *Trainer) Run(ctx context.Context, src Source) (err error) {
	if err := t.checkSource(src); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if t.lock == nil {
		if t.lock, err = lockOutput(ctx, t.files, &t.cfg, t.listen); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, t.lock.Release())
			t.lock = nil
		}()
		if names, err := checkpoint.Names(t.cfg.Output); err != nil || !slices.Equal(names, t.before) {
			return errors.Join(fmt.Errorf("train: output %s has checkpoints of another run since this one was set up: set it up again", t.cfg.Output), err)
		}
	}
	if err := t.completeSave(); err != nil {
		return err
	}
	metrics, err := openMetrics(t.files, t.cfg.Output, t.step)
	if err != nil {
		return err
	}
	defer metrics.close()
	t.metrics = metrics
	if t.events, err = newEventWriter(t.cfg.Output, time.Now()); err != nil {
		return err
	}
	defer t.events.close()

	schedule := t.cfg.Schedule(src.BatchesPerEpoch())
	total := t.cfg.TotalSteps(src.BatchesPerEpoch())
	t.tellStarted(src, total)
	for t.step < total && ctx.Err() == nil {
		epoch := t.position.Epoch
		m := Metrics{
			Step: t.step + 1, Epoch: t.position.Epoch + 1, LearningRate: schedule.LearningRate(t.step),
			KeyMomentum: optim.KeyMomentum(t.cfg.PixProMomentum, t.step, total),
		}
		more, err := t.makeStep(src, &m)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := errors.Join(metrics.write(m), t.events.metrics(m)); err != nil {
			return err
		}
		t.listen.Tell(StepDone{m, total})
		if t.due(epoch) {
			if err := t.save(src); err != nil {
				return err
			}
		}
	}
	if err := src.Err(); err != nil && ctx.Err() == nil {
		if t.partial {
			return fmt.Errorf("train: in step %d: %w: a part of a step is not saved; the last checkpoint is of step %d", t.step+1, err, t.saved)
		}
		return errors.Join(fmt.Errorf("train: after step %d: %w", t.step, err), t.save(src))
	}
	if t.step == 0 && ctx.Err() == nil {
		if total == 0 {
			return fmt.Errorf("train: accumulate %d: all %d epochs have only %d batches, not enough for a step", t.cfg.Accumulate, t.cfg.Epochs, int64(t.cfg.Epochs)*src.BatchesPerEpoch())
		}
		return errors.New("train: no step was made: none of the images could be read")
	}
	if t.step == total {
		return t.save(src)
	}
	return errors.Join(ctx.Err(), t.save(src))
}

// lockOutput makes a run the only writer of its output.
func lockOutput(ctx context.Context, files checkpoint.FS, o *Options, l Listener) (*lock.Lock, error) {
	held, err := lock.Folder(ctx, o.Output, func(dir string) error { return atomicfile.MakeDir(files, dir) }, o.Wait, l)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("train: output: %w", err)
	}
	return held, err
}

// tellStarted tells what the run trains.
func (t *Trainer) tellStarted(src Source, total int64) {
	e := Started{
		Device: t.engine.device.Name(), Options: t.cfg.Clone(), Cells: t.cfg.Size / t.engine.model.Encoder.Stride(),
		Images: src.PairsPerEpoch(), TotalSteps: total, Init: t.init, Resumed: t.resumed, Ended: t.Finished(),
	}
	for _, p := range t.engine.model.Trained() {
		e.Parameters += int64(p.Value.Len())
	}
	t.listen.Tell(e)
}

// checkSource finds out whether a source is not what the run was told to train
// on, or, of a resumed run, not what it began with.
func (t *Trainer) checkSource(src Source) error {
	size, dtype, err := pipeline.ViewsOf(src.Schema())
	if err != nil {
		return err
	}
	batches := (src.PairsPerEpoch() + int64(t.cfg.BatchSize) - 1) / int64(t.cfg.BatchSize)
	switch {
	case size != t.cfg.Size:
		return &options.Error{Name: "size", Value: fmt.Sprint(t.cfg.Size), Want: fmt.Sprintf("the source's views are of %d pixels", size)}
	case dtype != pipeline.Uint8:
		return fmt.Errorf("the source's views are %s: use %s, which the device normalises", dtype, pipeline.Uint8)
	case batches != src.BatchesPerEpoch():
		return &options.Error{Name: "batch", Value: fmt.Sprint(t.cfg.BatchSize), Want: fmt.Sprintf("the source has batches of another size: %d of %d pairs an epoch", src.BatchesPerEpoch(), src.PairsPerEpoch())}
	}
	if t.normalization, err = pipeline.NormalizationOf(src.Schema()); err != nil {
		return err
	}
	if err := t.checkDataset(src.Dataset()); err != nil {
		return err
	}
	r := t.resumed
	switch {
	case r == nil:
		return nil
	case r.State.Samples != src.PairsPerEpoch():
		return fmt.Errorf("resume from %s: its epochs had %d pairs, those of this source have %d: give the part of the dataset that the run began with", r.Dir, r.State.Samples, src.PairsPerEpoch())
	case !sameRecipe(r.State.Recipe, src.Recipe()):
		was, asks := r.State.Recipe, src.Recipe()
		return fmt.Errorf("resume from %s: the configuration does not fit: its recipe was %s with crops from %g, not this %s with crops from %g or of other parameters: give the recipe and crop that the run began with",
			r.Dir, was.Name, was.CropScale.Min, asks.Name, asks.CropScale.Min)
	}
	return nil
}

// checkDataset finds out whether a resumed run began with another dataset.
func (t *Trainer) checkDataset(digest string) error {
	r := t.resumed
	if r == nil || r.State.Dataset == digest {
		return nil
	}
	return fmt.Errorf("resume from %s: its dataset has other contents than this one: give the shards that the run began with, or start a new run from the checkpoint's weights with init", r.Dir)
}

// sameRecipe says whether recipes make the same of images, whatever their names.
func sameRecipe(a, b augment.Recipe) bool {
	a.Name = b.Name
	return a == b
}

// observeEvery is the number of steps from one ProjectionStd to the next.
const observeEvery = 10

// makeStep makes a step from the next batches and completes its metrics. It
// reports whether there were any.
func (t *Trainer) makeStep(src Source, m *Metrics) (bool, error) {
	observe := t.step%observeEvery == 0
	start, pairs := time.Now(), 0
	for micro := range t.cfg.Accumulate {
		asked := time.Now()
		if !src.Next() {
			if micro == 0 {
				return false, nil
			}
			if t.partial = src.Err() != nil; t.partial {
				return false, nil
			}
			break // the stream's end: images were lost, and the last step has fewer batches
		}
		m.DataWaitSeconds += time.Since(asked).Seconds()
		batch, err := pipeline.NewBatch(src.Record())
		if err != nil {
			return false, err
		}
		if micro == 0 {
			t.engine.begin(m.KeyMomentum)
		}
		if batch.Len() > t.cfg.BatchSize {
			return false, fmt.Errorf("train: step %d: the source's batch has %d pairs, more than the %d of option batch", m.Step, batch.Len(), t.cfg.BatchSize)
		}
		r := t.engine.add(viewsOf(&batch, t.normalization), 1/float64(t.cfg.Accumulate), observe)
		if err := t.engine.device.Err(); err != nil {
			return false, t.broken(*m, err)
		}
		m.Loss += r.Loss
		m.ProjectionStd += r.ProjectionStd / float64(t.cfg.Accumulate)
		pairs += batch.Len()
		if math.IsNaN(m.Loss) || math.IsInf(m.Loss, 0) {
			return false, t.diverged(*m, &batch, src)
		}
		if epoch := t.position.Epoch + 1; epoch > t.pictured {
			t.pictured = epoch
			if err := t.events.views(t.step, &batch); err != nil {
				return false, err
			}
		}
	}
	// A device may still compute this when the next batch arrives: a failure
	// shows in the next step's loss, or when the parameters are read.
	t.engine.update(m.LearningRate)
	t.step, t.position = m.Step, src.Position()
	m.PairsPerSecond = float64(pairs) / time.Since(start).Seconds()
	return true, nil
}

// broken is the error of a step on a device that failed. Its parameters may be
// of no step at all, so that nothing is saved.
func (t *Trainer) broken(m Metrics, err error) error {
	last := "there is no checkpoint yet"
	if t.saved > 0 {
		last = fmt.Sprintf("go on from the checkpoint of step %d with resume auto", t.saved)
	}
	return fmt.Errorf("train: step %d: %w: %s", m.Step, explain(&t.cfg, err), last)
}

// divergedDir, in a training output, gets the state in which a loss was not
// finite, for whoever wants to know why. It is no checkpoint to resume from.
const divergedDir = "diverged"

// diverged saves the state and returns the error of a step without a finite
// loss. The last checkpoint is from before it.
func (t *Trainer) diverged(m Metrics, batch *pipeline.Batch, src Source) error {
	var keys []string
	for i := range batch.Len() {
		keys = append(keys, batch.Key(i))
	}
	dir := "not saved"
	c, err := t.contents(src)
	if err == nil {
		if saved, saveErr := checkpoint.Save(t.files, filepath.Join(t.cfg.Output, divergedDir), c); saveErr == nil {
			dir = saved
		} else {
			err = saveErr
		}
	}
	return errors.Join(fmt.Errorf("train: step %d: the loss is %v (learning rate %g): start again with a lower base-lr or a longer warm-up; the last checkpoint is of step %d, the present state is in %s, the images are %s",
		m.Step, m.Loss, m.LearningRate, t.saved, dir, strings.Join(keys, ", ")), err)
}

// due says whether it is time for a checkpoint after a step that began in the
// given epoch.
func (t *Trainer) due(epoch int64) bool {
	switch every := t.cfg.SaveEvery; {
	case every.Time > 0:
		return time.Since(t.savedAt) >= every.Time
	case every.Steps > 0:
		return t.step%every.Steps == 0
	case every.Epochs > 0:
		return t.position.Epoch/every.Epochs > epoch/every.Epochs
	}
	return false
}

// save writes a checkpoint unless the last one is of this step, or the state is
// of none.
func (t *Trainer) save(src Source) error {
	if t.step == t.saved || t.partial {
		return nil
	}
	if err := t.metrics.flush(); err != nil {
		return err
	}
	c, err := t.contents(src)
	if err != nil {
		return err
	}
	if err := c.CheckFinite(); err != nil {
		return fmt.Errorf("train: after step %d %w: start again with a lower base-lr or a longer warm-up; the last checkpoint is of step %d", t.step, err, t.saved)
	}
	dir, err := checkpoint.Save(t.files, t.cfg.Output, c)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	t.saved, t.savedAt = t.step, time.Now()
	t.sound[filepath.Base(dir)] = true
	t.listen.Tell(Saved{t.step, dir})
	return t.prune()
}

// completeSave does for the checkpoint that the run goes on from what a save
// does last, since a run may be killed before that: it notes it as the latest
// and removes older ones.
func (t *Trainer) completeSave() error {
	if t.resumed == nil || !own(t.cfg.Output, t.resumed.Dir) {
		return nil // a new run, or one that begins where another was
	}
	if name, err := checkpoint.Latest(t.cfg.Output); err != nil || name != checkpoint.StepName(t.step) {
		if err := checkpoint.NoteLatest(t.files, t.cfg.Output, checkpoint.StepName(t.step)); err != nil {
			return fmt.Errorf("train: note the latest checkpoint in %s: %w", t.cfg.Output, err)
		}
	}
	return t.prune()
}

// prune removes checkpoints beyond those that are kept.
func (t *Trainer) prune() error {
	err := checkpoint.Prune(t.files, t.cfg.Output, t.cfg.Keep, t.step, func(name string) bool {
		sound, known := t.sound[name]
		if !known { // one of an earlier run
			_, err := checkpoint.Open(filepath.Join(t.cfg.Output, checkpoint.Folder, name))
			sound = err == nil
			t.sound[name] = sound
		}
		return sound
	})
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// contents are those of a checkpoint of the present state.
func (t *Trainer) contents(src Source) (checkpoint.Contents, error) {
	d := t.engine.device
	var tensors, buffers []safetensors.Tensor
	for _, p := range t.engine.model.Parameters() {
		tensors = append(tensors, safetensors.New(p.Name, p.Shape, p.Read(d)))
	}
	t.engine.optimizer.Read(func(p *nn.Parameter, buffer []float32) {
		buffers = append(buffers, safetensors.New(p.Name, p.Shape, buffer))
	})
	if err := d.Sync(); err != nil {
		return checkpoint.Contents{}, t.broken(Metrics{Step: t.step}, err)
	}
	schedule, total := t.cfg.Schedule(src.BatchesPerEpoch()), t.cfg.TotalSteps(src.BatchesPerEpoch())
	state := checkpoint.State{
		Step: t.step, Epoch: t.position.Epoch, Position: t.position,
		StepsPerEpoch: src.BatchesPerEpoch(), Samples: src.PairsPerEpoch(), Seed: t.cfg.Seed,
		Dataset: src.Dataset(), Recipe: src.Recipe(),
		Schedule: checkpoint.ScheduleState{
			Steps: total, LearningRate: schedule.LearningRate(t.step),
			KeyMomentum: optim.KeyMomentum(t.cfg.PixProMomentum, t.step, total),
		},
		Versions: checkpoint.CurrentVersions(d.Name()),
	}
	return checkpoint.Contents{State: state, Options: t.cfg, Model: tensors, Optimizer: buffers}, nil
}

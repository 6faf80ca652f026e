package evaluate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	processor "github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Encoders are the encoders that an evaluation compares, and how their features
// are computed. DefaultEncoders fills in what may not be zero.
type Encoders struct {
	Checkpoints []string // checkpoints, training outputs (then their latest), or files of weights
	Inits       []string // files of weights, such as supervised ones
	Untrained   bool     // random weights, of the first checkpoint's architecture
	Which       train.Branch
	// Arch, Stem and Width are those of files of weights, and of Untrained without
	// a checkpoint: see model.Lookup.
	Arch, Stem string
	Width      float64
	Size       int           // side in pixels that images are resized to; 0: of the first checkpoint's views, else 224
	Stage      int           // whose features are taken: 1 to model.Stages
	Threads    int           // that compute, 0 for one a core; results are the same for any number
	Seed       uint64        // of random weights and of all other choices
	Limits     decode.Limits // of what an image may take to decode
	Listener   Listener
}

// DefaultEncoders takes the last stage of an encoder of training's default
// architecture.
func DefaultEncoders() Encoders {
	o := options.Default()
	return Encoders{Which: train.Encoded, Arch: o.Arch, Stem: o.Stem, Width: o.Width, Stage: model.Stages}
}

// Source is where one of the compared encoders comes from.
type Source struct {
	Name    string
	ResNet  model.ResNet
	Size    int                  // of the views that it was trained on; 0 if unknown
	Step    int64                // of a checkpoint
	Weights []safetensors.Tensor // under torchvision's names; nil: random
}

// Validate returns an *options.Error about the first option that cannot be used.
func (e *Encoders) Validate() error {
	if err := e.Which.Check(); err != nil {
		return err
	}
	bad := func(name string, value any, want string, args ...any) error {
		return &options.Error{Name: name, Value: fmt.Sprint(value), Want: fmt.Sprintf(want, args...)}
	}
	switch {
	case e.Stage < 1 || e.Stage > model.Stages:
		return bad("stage", e.Stage, "use 1 to %d", model.Stages)
	case e.Size < 0 || e.Size > pipeline.MaxSize:
		return bad("size", e.Size, "use up to %d", pipeline.MaxSize)
	case e.Threads < 0:
		return bad("threads", e.Threads, "must not be negative")
	case e.Limits.MaxPixels < 0:
		return bad("max-pixels", e.Limits.MaxPixels, "must not be negative")
	case e.Limits.MaxTime < 0:
		return bad("max-decode-time", e.Limits.MaxTime, "must not be negative")
	}
	return nil
}

// resnet is the architecture of files of weights.
func (e *Encoders) resnet() (model.ResNet, error) {
	o := options.Options{Arch: e.Arch, Stem: e.Stem, Width: e.Width}
	return o.Encoder()
}

// Sources reads all weights, so that what is wrong is told before the work, and
// sets Size. Checkpoints come first, random weights last.
func (e *Encoders) Sources() ([]Source, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	if len(e.Checkpoints)+len(e.Inits) == 0 && !e.Untrained {
		return nil, &options.Error{Name: "checkpoint", Want: "name weights with it or with init, or ask for untrained ones"}
	}
	resnet, err := e.resnet()
	if err != nil {
		return nil, err
	}
	var all []Source
	for i, path := range append(append([]string(nil), e.Checkpoints...), e.Inits...) {
		w, err := train.ReadWeights(path)
		if err != nil {
			return nil, err
		}
		s := Source{Name: filepath.ToSlash(filepath.Clean(path)), ResNet: resnet}
		if c := w.Checkpoint; c != nil {
			if s.ResNet, err = c.Options.Encoder(); err != nil {
				return nil, fmt.Errorf("%s: %w", w.Path, err)
			}
			s.Size, s.Step = c.Options.Size, c.State.Step
		}
		which := train.Encoded
		if i < len(e.Checkpoints) {
			which = e.Which
		}
		if s.Weights, err = w.Encoder(which); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if e.Untrained {
		s := Source{Name: "untrained", ResNet: resnet}
		if len(e.Checkpoints) > 0 {
			s.ResNet, s.Size = all[0].ResNet, all[0].Size
		}
		all = append(all, s)
	}
	if e.Size == 0 {
		e.Size = all[0].Size
	}
	if e.Size == 0 {
		e.Size = options.Default().Size
	}
	return all, nil
}

// workers is the number of goroutines that compute.
func (e *Encoders) workers() int {
	if e.Threads > 0 {
		return e.Threads
	}
	return processor.Cores()
}

// Open builds an extractor of a source's features for so many images, and what
// frees it.
func (e *Encoders) Open(s Source, images int) (x *Extractor, free func(), err error) {
	var devices []*cpu.Device
	free = func() {
		for _, d := range devices {
			d.Close()
		}
	}
	encoders := make([]*train.Encoder, min(e.workers(), images))
	for i := range encoders {
		d := cpu.New(1)
		devices = append(devices, d)
		if s.Weights == nil {
			encoders[i] = train.RandomEncoder(d, s.ResNet, e.Seed)
			continue
		}
		if encoders[i], err = train.NewEncoder(d, s.ResNet, s.Weights); err != nil {
			free()
			return nil, nil, fmt.Errorf("%s (of another arch, stem or width?): %w", s.Name, err)
		}
	}
	return NewExtractor(encoders, e.Stage, e.Limits), free, nil
}

// each opens one source after another, and calls use for each.
func (e *Encoders) each(sources []Source, images int, use func(s Source, x *Extractor, l Listener) error) error {
	for _, s := range sources {
		x, free, err := e.Open(s, images)
		if err != nil {
			return err
		}
		err = use(s, x, of(e.Listener, s.Name))
		free()
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// FeaturesOf computes the feature map of an image file by the first encoder. It
// is taken in its own size where Size is 0. On one thread, the values are those
// that evaluations work with, to the bit.
func (e Encoders) FeaturesOf(image string) (m train.FeatureMap, err error) {
	size := e.Size
	sources, err := e.Sources()
	if err != nil {
		return m, err
	}
	planes, err := newLoader(context.Background(), decoding.NewSharedMemory(1), e.Limits).LoadFile(image, size)
	if err != nil {
		return m, err
	}
	d := cpu.New(e.Threads)
	defer d.Close()
	s := sources[0]
	if s.Weights == nil {
		return train.RandomEncoder(d, s.ResNet, e.Seed).Features(planes, e.Stage)
	}
	encoder, err := train.NewEncoder(d, s.ResNet, s.Weights)
	if err != nil {
		return m, fmt.Errorf("%s: %w", s.Name, err)
	}
	return encoder.Features(planes, e.Stage)
}

// Files computes the maps of image files, each of its own size where size is 0.
func (x *Extractor) Files(ctx context.Context, l Listener, paths []string, size int) ([]train.FeatureMap, error) {
	maps, step := make([]train.FeatureMap, len(paths)), counter(l, "features", len(paths))
	err := x.Each(ctx, len(paths), func(loader *Loader, i int) (augment.Planes, error) {
		return loader.LoadFile(paths[i], size)
	}, func(i int, m train.FeatureMap) error {
		maps[i] = m
		step()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return maps, nil
}

// LoadFile is Load of an image file.
func (l *Loader) LoadFile(path string, size int) (augment.Planes, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return augment.Planes{}, err
	}
	planes, err := l.Load(data, size)
	if err != nil {
		return planes, fmt.Errorf("%s: %w", path, err)
	}
	return planes, nil
}

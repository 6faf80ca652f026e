package train

import (
	"errors"
	"fmt"

	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/dry"
)

// Plan is what a run will take, found without computing.
type Plan struct {
	Parameters    int64   `json:"parameters"`     // trained ones
	KeyParameters int64   `json:"key_parameters"` // of the key branch
	Images        int64   `json:"images"`         // in the dataset
	Cells         int     `json:"cells"`          // along a side of the feature map
	MemoryBytes   int64   `json:"memory_bytes"`   // of tensors, at most
	StepFlops     int64   `json:"step_flops"`     // of convolutions and matrix products; a multiplication and an addition are two
	TotalSteps    int64   `json:"total_steps"`
	PeakRate      float64 `json:"peak_learning_rate"`
}

// MakePlan plans a run on a dataset of the given number of images.
func MakePlan(o Options, images int64) (Plan, error) {
	if err := o.Validate(); err != nil {
		return Plan{}, fmt.Errorf("train: %w", err)
	}
	d := &dry.Device{HalfActivations: o.Precision == device.BF16}
	e, err := newEngine(d, &o)
	if err != nil {
		return Plan{}, err
	}
	e.repeat(blankViews(&o), 0.99, 1, o.Accumulate)
	batches := images / int64(o.BatchSize)
	p := Plan{
		Images: images, Cells: o.Size / e.model.Encoder.Stride(), MemoryBytes: d.PeakBytes, StepFlops: d.Flops,
		TotalSteps: o.TotalSteps(batches), PeakRate: o.Schedule(batches).Base,
	}
	for _, q := range e.model.Trained() {
		p.Parameters += int64(q.Value.Len())
	}
	for _, q := range e.model.Parameters() {
		if !q.Statistic {
			p.KeyParameters += int64(q.Value.Len())
		}
	}
	p.KeyParameters -= p.Parameters
	return p, nil
}

// explain adds what fits to an error of a device without enough memory.
func explain(o *Options, err error) error {
	var full *device.OutOfMemoryError
	if !errors.As(err, &full) {
		return err
	}
	fits := 0
	for low, high := 1, o.BatchSize-1; low <= high; {
		smaller := o.Clone()
		smaller.BatchSize = (low + high) / 2
		if p, err := MakePlan(smaller, int64(o.BatchSize)); err != nil || p.MemoryBytes > full.Available {
			high = smaller.BatchSize - 1
		} else {
			fits, low = smaller.BatchSize, smaller.BatchSize+1
		}
	}
	if fits == 0 {
		return fmt.Errorf("%w: not even a batch of one pair would fit; use a smaller size or arch", err)
	}
	return fmt.Errorf("%w: a batch of %d does not fit, one of %d would; see also accumulate", err, o.BatchSize, fits)
}

// blankViews are a batch of the configured shape without content.
func blankViews(o *Options) views {
	v := views{pairs: o.BatchSize, size: o.Size, normalization: pipeline.ImageNet()}
	for i := range v.pixels {
		v.pixels[i] = make([]uint8, o.BatchSize*3*o.Size*o.Size)
		for range o.BatchSize {
			v.coords[i] = append(v.coords[i], 0.2*float32(i), 0.2*float32(i), 0.6+0.3*float32(i), 0.6+0.4*float32(i))
		}
	}
	return v
}

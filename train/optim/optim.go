// Package optim updates parameters: LARS on SGD with momentum, and the
// schedules of the learning rate and of the key encoder's momentum.
package optim

import (
	"fmt"
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// LARS is SGD with momentum whose steps are scaled, for parameters of two or
// more dimensions, by Trust |p| / |gradient| (You et al. 2017). Biases and
// batch norms have neither that nor weight decay.
type LARS struct {
	Momentum, WeightDecay, Trust, Epsilon float64
	device                                device.Device
	parameters                            []*nn.Parameter
	buffers                               []device.Tensor
}

// NewLARS returns an optimiser with the paper's momentum 0.9 and trust 0.001.
func NewLARS(d device.Device, parameters []*nn.Parameter, weightDecay float64) *LARS {
	l := &LARS{Momentum: 0.9, WeightDecay: weightDecay, Trust: 0.001, Epsilon: 1e-8, device: d, parameters: parameters}
	for _, p := range parameters {
		buffer := d.Alloc(p.Value.Shape...)
		d.Zero(buffer)
		l.buffers = append(l.buffers, buffer)
	}
	return l
}

// Step moves the parameters against their gradients.
func (l *LARS) Step(rate float64) {
	for i, p := range l.parameters {
		l.device.LARS(p.Value, l.buffers[i], p.Grad, device.LARS{
			LearningRate: rate, Momentum: l.Momentum, WeightDecay: l.WeightDecay,
			Trust: l.Trust, Epsilon: l.Epsilon, Adapt: len(p.Shape) > 1,
		})
	}
}

// Read calls visit with every parameter and its momentum buffer in PyTorch's
// layout.
func (l *LARS) Read(visit func(p *nn.Parameter, buffer []float32)) {
	for i, p := range l.parameters {
		visit(p, p.ReadLike(l.device, l.buffers[i]))
	}
}

// Load sets every momentum buffer to what lookup has under its parameter's name.
func (l *LARS) Load(lookup func(p *nn.Parameter) ([]float32, error)) error {
	for i, p := range l.parameters {
		values, err := lookup(p)
		if err != nil {
			return err
		}
		if err := p.LoadLike(l.device, l.buffers[i], values); err != nil {
			return fmt.Errorf("momentum: %w", err)
		}
	}
	return nil
}

// Schedule is the learning rate over the steps of a run: a linear warm-up from
// Base/100, then half a cosine down to 1e-6.
type Schedule struct {
	Base          float64
	StepsPerEpoch int64
	Epochs        int
	WarmupEpochs  int
}

// LearningRate is the rate of a step, counted from 0.
func (s Schedule) LearningRate(step int64) float64 {
	const (
		multiplier = 100.0
		floor      = 1e-6
	)
	warm := float64(s.WarmupEpochs) * float64(s.StepsPerEpoch)
	at := float64(step)
	if at <= warm && warm > 0 {
		return s.Base / multiplier * ((multiplier-1)*at/warm + 1)
	}
	rest := float64(s.Epochs-s.WarmupEpochs) * float64(s.StepsPerEpoch)
	return floor + (s.Base-floor)*(1+math.Cos(math.Pi*(at-warm)/rest))/2
}

// KeyMomentum is the momentum of the key encoder at a step of total, counted
// from 0: half a cosine from base up to 1.
func KeyMomentum(base float64, step, total int64) float64 {
	return 1 - (1-base)*(math.Cos(math.Pi*float64(step)/float64(total))+1)/2
}

// Package optim updates parameters: SGD with momentum and LARS, and the
// schedules of the learning rate and of the key encoder's momentum.
package optim

import (
	"fmt"
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// Optimizer is SGD with momentum, adaptive by layer (LARS) or plain.
type Optimizer struct {
	Config
	device     device.Device
	parameters []*nn.Parameter
	buffers    []device.Tensor
}

// The kinds of optimisers.
const (
	// LARS scales the steps of parameters of two or more dimensions by Trust |p|
	// / |gradient| (You et al. 2017). Biases and batch norms have neither that
	// nor weight decay.
	LARS = "lars"
	// SGD is plain; weight decay is for all parameters.
	SGD = "sgd"
)

// Config says how parameters move.
type Config struct {
	Kind                  string // LARS or SGD
	Momentum, WeightDecay float64
}

// LARS's constants in the published implementation.
const (
	trust   = 0.001
	epsilon = 1e-8
)

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	switch {
	case c.Kind != LARS && c.Kind != SGD:
		return fmt.Errorf("optimizer %q: use lars or sgd", c.Kind)
	case !(c.Momentum >= 0 && c.Momentum < 1):
		return fmt.Errorf("momentum %g: must be in [0, 1)", c.Momentum)
	case !(c.WeightDecay >= 0):
		return fmt.Errorf("weight decay %g: must not be negative", c.WeightDecay)
	}
	return nil
}

// New returns an optimiser of the parameters, without momentum yet.
func New(d device.Device, parameters []*nn.Parameter, c Config) *Optimizer {
	o := &Optimizer{Config: c, device: d, parameters: parameters}
	for _, p := range parameters {
		buffer := d.Alloc(p.Value.Shape...)
		d.Zero(buffer)
		o.buffers = append(o.buffers, buffer)
	}
	return o
}

// Step moves the parameters against their gradients.
func (o *Optimizer) Step(rate float64) {
	for i, p := range o.parameters {
		u := device.Update{LearningRate: rate, Momentum: o.Momentum, WeightDecay: o.WeightDecay}
		if o.Kind == LARS {
			u.Trust, u.Epsilon, u.Adapt = trust, epsilon, len(p.Shape) > 1
			if !u.Adapt {
				u.WeightDecay = 0
			}
		}
		o.device.Update(p.Value, o.buffers[i], p.Grad, u)
	}
}

// Read calls visit with every parameter and its momentum buffer in PyTorch's
// layout.
func (o *Optimizer) Read(visit func(p *nn.Parameter, buffer []float32)) {
	for i, p := range o.parameters {
		visit(p, p.ReadLike(o.device, o.buffers[i]))
	}
}

// Load sets every momentum buffer to what lookup has under its parameter's name.
func (o *Optimizer) Load(lookup func(p *nn.Parameter) ([]float32, error)) error {
	for i, p := range o.parameters {
		values, err := lookup(p)
		if err != nil {
			return err
		}
		if err := p.LoadLike(o.device, o.buffers[i], values); err != nil {
			return fmt.Errorf("momentum: %w", err)
		}
	}
	return nil
}

// Schedule is the learning rate over the steps of a run: a linear warm-up from
// Base/100, then half a cosine down to 1e-6, or steps.
type Schedule struct {
	Base          float64
	StepsPerEpoch int64
	Epochs        int
	WarmupEpochs  int
	// DecayEpochs, if there are any, make it a schedule of steps: after each of
	// these epochs the rate is multiplied by DecayRate.
	DecayEpochs []int
	DecayRate   float64
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
	if len(s.DecayEpochs) > 0 {
		rate := s.Base
		for _, epoch := range s.DecayEpochs {
			if step >= int64(epoch)*s.StepsPerEpoch {
				rate *= s.DecayRate
			}
		}
		return rate
	}
	rest := float64(s.Epochs-s.WarmupEpochs) * float64(s.StepsPerEpoch)
	return floor + (s.Base-floor)*(1+math.Cos(math.Pi*(at-warm)/rest))/2
}

// KeyMomentum is the momentum of the key encoder at a step of total, counted
// from 0: half a cosine from base up to 1.
func KeyMomentum(base float64, step, total int64) float64 {
	return 1 - (1-base)*(math.Cos(math.Pi*float64(step)/float64(total))+1)/2
}

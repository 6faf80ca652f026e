package model

import (
	"errors"
	"fmt"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// The pre-training methods.
const (
	PixPro      = "pixpro"
	PixContrast = "pixcontrast"
)

// Config describes a model. Zero fields are not defaults: see train.Default.
type Config struct {
	Encoder ResNet
	Method  string // PixPro or PixContrast
	Hidden  int    // channels inside the projection head
	Dim     int    // channels of a projection
	// Of PixPro's propagation module:
	Propagation     device.Propagation
	TransformLayers int // depth of the value transform: 0, 1 or 2
	Seed            uint64
}

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	switch {
	case c.Method != PixPro && c.Method != PixContrast:
		return fmt.Errorf("method %q: use pixpro or pixcontrast", c.Method)
	case c.Hidden < 1 || c.Dim < 1:
		return fmt.Errorf("projection head of %d and %d channels: both must be positive", c.Hidden, c.Dim)
	case c.Propagation.Gamma <= 0:
		return fmt.Errorf("propagation exponent %g: must be above 0", c.Propagation.Gamma)
	case c.Propagation.Clamp < 0 || c.Propagation.Clamp >= 1:
		return fmt.Errorf("propagation clamp %g: must be in [0, 1)", c.Propagation.Clamp)
	case c.TransformLayers < 0 || c.TransformLayers > 2:
		return fmt.Errorf("%d layers of the value transform: use 0, 1 or 2", c.TransformLayers)
	}
	return nil
}

// Model is a query branch, trained by gradients, and a key branch, its moving
// average.
type Model struct {
	Config
	device      device.Device
	encoder     *Encoder
	projector   *Head
	propagation *Propagation // PixPro only
	keyEncoder  *Encoder
	keyHead     *Head

	parameters []*nn.Parameter
	trained    []*nn.Parameter
	pairs      [][2]*nn.Parameter // key, query
}

// New builds a model with random parameters; the key branch starts as a copy
// of the query branch.
func New(d device.Device, c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Model{Config: c, device: d}
	b := nn.Builder{Device: d, Seed: c.Seed, Gradients: true, List: &m.parameters}
	m.encoder = NewEncoder(b.In("encoder"), c.Encoder)
	m.projector = NewHead(b.In("projector"), c.Encoder.Channels(), c.Hidden, c.Dim)
	queries := m.parameters
	if c.Method == PixPro {
		m.propagation = NewPropagation(b, c.Dim, c.TransformLayers, c.Propagation)
	}
	for _, p := range m.parameters {
		if !p.Statistic {
			m.trained = append(m.trained, p)
		}
	}

	var keys []*nn.Parameter
	b = nn.Builder{Device: d, Seed: c.Seed, List: &keys}
	m.keyEncoder = NewEncoder(b.In("encoder_k"), c.Encoder)
	m.keyHead = NewHead(b.In("projector_k"), c.Encoder.Channels(), c.Hidden, c.Dim)
	for i, key := range keys {
		if err := key.Load(d, queries[i].Read(d)); err != nil {
			return nil, fmt.Errorf("copy %s: %w", queries[i].Name, err)
		}
		if !key.Statistic {
			m.pairs = append(m.pairs, [2]*nn.Parameter{key, queries[i]})
		}
	}
	m.parameters = append(m.parameters, keys...)
	return m, nil
}

// Parameters lists all parameters and running statistics, the query branch first.
func (m *Model) Parameters() []*nn.Parameter { return m.parameters }

// Trained lists the parameters that get gradients.
func (m *Model) Trained() []*nn.Parameter { return m.trained }

// Queries computes the projections, propagated for PixPro, of normalised
// images: N x h x w x Dim.
func (m *Model) Queries(t *nn.Tape, x *nn.Var) *nn.Var {
	y := m.projector.Forward(t, m.encoder.Forward(t, x))
	if m.propagation != nil {
		y = m.propagation.Forward(t, y)
	}
	return y
}

// Keys computes the key branch's projections: N x h x w x Dim.
func (m *Model) Keys(t *nn.Tape, x *nn.Var) *nn.Var {
	return m.keyHead.Forward(t, m.keyEncoder.Forward(t, x))
}

// UpdateKeys moves the key branch's parameters to momentum * key + (1 -
// momentum) * query; its running statistics are its own.
func (m *Model) UpdateKeys(momentum float64) {
	for _, p := range m.pairs {
		m.device.MovingAverage(p[0].Value, p[1].Value, momentum)
	}
}

// ZeroGradients clears all gradients.
func (m *Model) ZeroGradients() {
	for _, p := range m.trained {
		m.device.Zero(p.Grad)
	}
}

// ErrParameters is the class of errors about parameters that do not fit a model.
var ErrParameters = errors.New("parameters do not fit the model")

// Load sets every parameter to what lookup has under its name, in PyTorch's
// layout. Errors are of class ErrParameters and name the parameter.
func (m *Model) Load(lookup func(name string) (values []float32, shape []int, ok bool)) error {
	for _, p := range m.parameters {
		values, shape, ok := lookup(p.Name)
		if !ok {
			return fmt.Errorf("%w: %s is missing", ErrParameters, p.Name)
		}
		if fmt.Sprint(shape) != fmt.Sprint(p.Shape) {
			return fmt.Errorf("%w: %s is %v, the model's is %v", ErrParameters, p.Name, shape, p.Shape)
		}
		if err := p.Load(m.device, values); err != nil {
			return fmt.Errorf("%w: %w", ErrParameters, err)
		}
	}
	return nil
}

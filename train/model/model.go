package model

import (
	"errors"
	"fmt"
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// The pre-training methods.
const (
	PixPro      = "pixpro"
	PixContrast = "pixcontrast"
	// Instance has no pixel loss: only that of whole images.
	Instance = "instance"
)

// The losses of whole images.
const (
	NoInstance = "none"
	BYOL       = "byol"   // Grill et al. 2020: a predictor, no negatives
	SimCLR     = "simclr" // Chen et al. 2020, with the key encoder's projections
)

// Config describes a model. Zero fields are not defaults: see train.Default.
type Config struct {
	Encoder ResNet
	Method  string // PixPro, PixContrast or Instance
	Hidden  int    // channels inside the projection head
	Dim     int    // channels of a projection
	// Of PixPro's propagation module:
	Propagation     device.Propagation
	TransformLayers int // depth of the value transform: 0, 1 or 2
	// Instance is the branch for whole images: NoInstance, BYOL or SimCLR.
	Instance string
	Seed     uint64
}

// maxChannels keeps a mistyped width of a head from taking all memory.
const maxChannels = 1 << 16

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	switch {
	case c.Method != PixPro && c.Method != PixContrast && c.Method != Instance:
		return fmt.Errorf("method %q: use pixpro, pixcontrast or instance", c.Method)
	case c.Instance != NoInstance && c.Instance != BYOL && c.Instance != SimCLR:
		return fmt.Errorf("instance branch %q: use none, byol or simclr", c.Instance)
	case c.Method == Instance && c.Instance == NoInstance:
		return errors.New("method instance needs an instance branch: use byol or simclr")
	case c.Hidden < 1 || c.Hidden > maxChannels || c.Dim < 1 || c.Dim > maxChannels:
		return fmt.Errorf("projection head of %d and %d channels: both must be from 1 to %d", c.Hidden, c.Dim, maxChannels)
	case !(c.Propagation.Gamma > 0 && c.Propagation.Gamma <= math.MaxFloat32):
		return fmt.Errorf("propagation exponent %g: must be above 0", c.Propagation.Gamma)
	case !(c.Propagation.Clamp >= 0 && c.Propagation.Clamp < 1):
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
	device        device.Device
	queries, keys branch
	propagation   *Propagation // PixPro only
	predictor     *Head        // BYOL only
	parameters    []*nn.Parameter
	trained       []*nn.Parameter
	pairs         [][2]*nn.Parameter // key, query
}

// branch is an encoder with its projection heads.
type branch struct {
	encoder  *Encoder
	pixel    *Head // nil for the method Instance
	instance *Head // nil without an instance branch
}

// newBranch builds a branch whose parts' names end in suffix.
func newBranch(b nn.Builder, c *Config, suffix string) branch {
	br := branch{encoder: NewEncoder(b.In("encoder"+suffix), c.Encoder)}
	if c.Method != Instance {
		br.pixel = NewHead(b.In("projector"+suffix), c.Encoder.Channels(), c.Hidden, c.Dim)
	}
	if c.Instance != NoInstance {
		br.instance = NewHead(b.In("projector_instance"+suffix), c.Encoder.Channels(), c.Hidden, c.Dim)
	}
	return br
}

// New builds a model with random parameters; the key branch starts as a copy
// of the query branch.
func New(d device.Device, c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Model{Config: c, device: d}
	b := nn.Builder{Device: d, Seed: c.Seed, Gradients: true, List: &m.parameters}
	m.queries = newBranch(b, &c, "")
	queries := m.parameters
	if c.Method == PixPro {
		m.propagation = NewPropagation(b, c.Dim, c.TransformLayers, c.Propagation)
	}
	if c.Instance == BYOL {
		m.predictor = NewHead(b.In("predictor"), c.Dim, c.Hidden, c.Dim)
	}
	for _, p := range m.parameters {
		if !p.Statistic {
			m.trained = append(m.trained, p)
		}
	}

	var keys []*nn.Parameter
	m.keys = newBranch(nn.Builder{Device: d, Seed: c.Seed, List: &keys}, &c, "_k")
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

// Projections are what a branch makes of 2N images. Parts that the method does
// not have are nil.
type Projections struct {
	Pixels   *nn.Var // 2N x h x w x Dim; propagated in PixPro's query branch
	Instance *nn.Var // 2N x 1 x 1 x Dim; predicted in BYOL's query branch
}

// Queries runs the query branch on normalised images.
func (m *Model) Queries(t *nn.Tape, x *nn.Var) Projections {
	return m.queries.project(t, x, m.propagation, m.predictor)
}

// Keys runs the key branch on normalised images.
func (m *Model) Keys(t *nn.Tape, x *nn.Var) Projections {
	return m.keys.project(t, x, nil, nil)
}

func (b *branch) project(t *nn.Tape, x *nn.Var, propagation *Propagation, predictor *Head) (p Projections) {
	features := b.encoder.Forward(t, x)
	if b.pixel != nil {
		p.Pixels = b.pixel.Forward(t, features.Retain())
		if propagation != nil {
			p.Pixels = propagation.Forward(t, p.Pixels)
		}
	}
	if b.instance != nil {
		p.Instance = b.instance.Forward(t, features.Retain())
		if predictor != nil {
			p.Instance = predictor.Forward(t, p.Instance)
		}
		side := p.Instance.Value.Shape[1]
		p.Instance = nn.AveragePool(t, p.Instance, device.Convolution{Kernel: side, Stride: 1})
	}
	features.Release()
	return p
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

package method

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Model is what a run trains: a query branch, by gradients, and a key branch,
// its moving average, each an encoder with the heads of the losses.
type Model struct {
	Encoder model.ResNet

	device        device.Device
	queries, keys *model.Encoder
	losses        []Loss
	parameters    []*nn.Parameter
	trained       []*nn.Parameter
	pairs         [][2]*nn.Parameter // key, query
}

// New builds the model of the method that o names, on encoders of the given
// architecture, with random parameters. The key branch starts as a copy of the
// query branch.
func New(d device.Device, encoder model.ResNet, o *options.Options) (*Model, error) {
	buildersMutex.Lock()
	build, ok := builders[o.Method]
	buildersMutex.Unlock()
	if !ok {
		r, _ := o.Row("method")
		return nil, r.Check()
	}
	m := &Model{Encoder: encoder, device: d}
	b := &Builder{Options: o, Channels: encoder.Channels(), device: d}
	m.queries, m.keys = Twin(b, "encoder", func(n nn.Builder) *model.Encoder { return model.NewEncoder(n, encoder) })
	loss, err := build(b, o.SectionOf(o.Method))
	if err != nil {
		return nil, fmt.Errorf("method %s: %w", o.Method, err)
	}
	m.losses = append(m.losses, loss)
	if i := Options[*Instance](o); i.Branch != NoBranch && o.Method != instanceName {
		m.losses = append(m.losses, newInstance(b, i))
	}

	// The order is that of checkpoints: what both branches have, what the query
	// branch alone has, the key branch.
	trained := append(append([]*nn.Parameter(nil), b.twins...), b.solo...)
	m.parameters = append(trained, b.keys...)
	for _, p := range trained {
		if !p.Statistic {
			m.trained = append(m.trained, p)
		}
	}
	for i, key := range b.keys {
		query := b.twins[i]
		if err := key.Load(d, query.Read(d)); err != nil {
			return nil, fmt.Errorf("copy %s: %w", query.Name, err)
		}
		if !key.Statistic {
			m.pairs = append(m.pairs, [2]*nn.Parameter{key, query})
		}
	}
	return m, nil
}

// Parameters lists all parameters and running statistics, the query branch first.
func (m *Model) Parameters() []*nn.Parameter { return m.parameters }

// Trained lists the parameters that get gradients.
func (m *Model) Trained() []*nn.Parameter { return m.trained }

// Loss computes share times the loss of a batch and adds its gradients to those
// of the parameters. images, 2N x H x W x 3, are normalised; coords, 2N x 4, are
// where they lie. It takes over the memory of images.
func (m *Model) Loss(images, coords device.Tensor, share float64, observe bool) Result {
	s := &Step{
		Device: m.device, Tape: nn.NewTape(m.device, nn.Train, 2), KeyTape: nn.NewTape(m.device, nn.Keys, 2),
		Coords: coords, Share: share, Observe: observe,
	}
	pixels := s.Tape.Input(images)
	s.features = m.queries.Forward(s.Tape, pixels.Retain())
	s.keyFeatures = m.keys.Forward(s.KeyTape, pixels)
	var total Result
	for i, l := range m.losses {
		r := l.Compute(s)
		total.Loss += r.Loss
		if i == 0 {
			total.ProjectionStd = r.ProjectionStd
		}
	}
	s.features.Release()
	s.keyFeatures.Release()
	s.Tape.Backward()
	return total
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

// Load sets every parameter to the tensor that find has under its name, in
// PyTorch's layout. Errors name the parameter; those of tensors that are
// missing or of another shape are of class nn.ErrParameters.
func (m *Model) Load(find func(name string) (safetensors.Tensor, bool)) error {
	for _, p := range m.parameters {
		values, err := p.Match(find)
		if err == nil {
			err = p.Load(m.device, values)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

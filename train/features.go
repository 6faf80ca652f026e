package train

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Encoder computes feature maps with fixed parameters: batch norms use their
// running statistics.
type Encoder struct {
	device  device.Device
	encoder *model.Encoder
}

// FeatureMap is what an encoder makes of an image.
type FeatureMap struct {
	Rows, Cols, Channels int
	Values               []float32 // Rows x Cols x Channels
}

// Cell is the vector of the cell of that number, counted row by row.
func (m *FeatureMap) Cell(i int) []float32 { return m.Values[i*m.Channels : (i+1)*m.Channels] }

// ChannelsFirst returns the values as PyTorch has them: Channels x Rows x Cols.
func (m *FeatureMap) ChannelsFirst() []float32 {
	cells := m.Rows * m.Cols
	values := make([]float32, len(m.Values))
	for i, v := range m.Values {
		values[i%m.Channels*cells+i/m.Channels] = v
	}
	return values
}

// NewEncoder builds an encoder on d from tensors under torchvision's names.
// Tensors that it has no place for, such as a classifier's, are passed over.
func NewEncoder(d device.Device, r model.ResNet, tensors []safetensors.Tensor) (*Encoder, error) {
	byName := map[string]safetensors.Tensor{}
	for _, t := range tensors {
		byName[t.Name] = t
	}
	find := func(name string) (safetensors.Tensor, bool) { t, ok := byName[name]; return t, ok }
	var parameters []*nn.Parameter
	e := &Encoder{d, model.NewEncoder(nn.Builder{Device: d, List: &parameters}, r)}
	for _, p := range parameters {
		values, err := p.Match(find)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		if err := p.Load(d, values); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	return e, nil
}

// RandomEncoder builds the encoder on d that a run with this seed starts with.
func RandomEncoder(d device.Device, r model.ResNet, seed uint64) *Encoder {
	var parameters []*nn.Parameter
	b := nn.Builder{Device: d, Seed: seed, Prefix: queryEncoder, List: &parameters}
	return &Encoder{d, model.NewEncoder(b, r)}
}

// Features computes the map at the end of a stage, from 1 to model.Stages, of
// an image normalised by ImageNet's colours. Values that are not finite are an
// error.
func (e *Encoder) Features(image augment.Planes, stage int) (FeatureMap, error) {
	if stage < 1 || stage > model.Stages {
		return FeatureMap{}, fmt.Errorf("train: stage %d: use 1 to %d", stage, model.Stages)
	}
	d, area := e.device, image.Width*image.Height
	pixels, n := make([]float32, 3*area), pipeline.ImageNet()
	for c := range 3 {
		for i, v := range image.Pix[c*area : (c+1)*area] {
			pixels[3*i+c] = float32((float64(v)/255 - n.Mean[c]) / n.Std[c])
		}
	}
	x := d.AllocActivation(1, image.Height, image.Width, 3)
	d.Upload(x, pixels)
	tape := nn.NewTape(d, nn.Inference, 1)
	y := e.encoder.ForwardTo(tape, tape.Input(x), stage)
	shape := y.Value.Shape
	m := FeatureMap{Rows: shape[1], Cols: shape[2], Channels: shape[3], Values: make([]float32, y.Value.Len())}
	d.Download(m.Values, y.Value)
	y.Release()
	if err := d.Sync(); err != nil {
		return FeatureMap{}, fmt.Errorf("train: features: %w", err)
	}
	for _, v := range m.Values {
		if d := v - v; d != 0 { // not a number, or infinite
			return FeatureMap{}, fmt.Errorf("train: features: a value is %v: the weights or running statistics are damaged, or of another architecture", v)
		}
	}
	return m, nil
}

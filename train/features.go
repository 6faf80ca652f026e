package train

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/safetensors"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// Encoder computes feature maps with fixed parameters: batch norms use their
// running statistics.
type Encoder struct {
	device  device.Device
	encoder *model.Encoder
}

// NewEncoder builds an encoder on d from tensors under torchvision's names.
// Tensors that it has no place for, such as a classifier's, are passed over.
func NewEncoder(d device.Device, r model.ResNet, tensors []safetensors.Tensor) (*Encoder, error) {
	byName := map[string]safetensors.Tensor{}
	for _, t := range tensors {
		byName[t.Name] = t
	}
	var parameters []*nn.Parameter
	e := &Encoder{d, model.NewEncoder(nn.Builder{Device: d, List: &parameters}, r)}
	for _, p := range parameters {
		t, ok := byName[p.Name]
		if !ok {
			return nil, fmt.Errorf("train: %w: %s is missing", model.ErrParameters, p.Name)
		}
		if fmt.Sprint(t.Shape) != fmt.Sprint(p.Shape) {
			return nil, fmt.Errorf("train: %w: %s is %v, the model's is %v", model.ErrParameters, p.Name, t.Shape, p.Shape)
		}
		values, err := t.Float32s()
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		if err := p.Load(d, values); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	return e, nil
}

// Features computes the last stage's feature map of an image, normalised by
// ImageNet's colours: C x h x w values.
func (e *Encoder) Features(image augment.Planes) (features []float32, shape [3]int, err error) {
	d, area := e.device, image.Width*image.Height
	pixels := make([]float32, 3*area)
	for c := range 3 {
		for i, v := range image.Pix[c*area : (c+1)*area] {
			pixels[3*i+c] = float32((float64(v)/255 - colourMean[c]) / colourStd[c])
		}
	}
	x := d.AllocActivation(1, image.Height, image.Width, 3)
	d.Upload(x, pixels)
	tape := nn.NewTape(d, nn.Inference, 1)
	y := e.encoder.Forward(tape, tape.Input(x))
	height, width, channels := y.Value.Shape[1], y.Value.Shape[2], y.Value.Shape[3]
	last := make([]float32, y.Value.Len())
	d.Download(last, y.Value)
	y.Release()
	if err := d.Sync(); err != nil {
		return nil, shape, fmt.Errorf("train: features: %w", err)
	}
	features = make([]float32, len(last))
	cells := height * width
	for i, v := range last {
		features[i%channels*cells+i/channels] = v
	}
	return features, [3]int{channels, height, width}, nil
}

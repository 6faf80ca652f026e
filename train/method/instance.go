package method

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// Instance are the options of the loss of whole images, which stands beside
// another method's if Branch is not NoBranch, or alone as a method of its own.
type Instance struct {
	Branch      string  // NoBranch, BYOL or SimCLR
	Weight      float64 // of the loss
	Temperature float64 // of SimCLR
}

// The losses of whole images.
const (
	NoBranch = "none"
	BYOL     = "byol"   // Grill et al. 2020: a predictor, no negatives
	SimCLR   = "simclr" // Chen et al. 2020, with the key encoder's projections
)

const instanceName = "instance"

// Rows implements options.Section.
func (i *Instance) Rows() []options.Row {
	return []options.Row{
		options.New("instance", &i.Branch, "loss of whole images beside that of pixels: none, byol or simclr", options.OneOf(NoBranch, BYOL, SimCLR)),
		options.New("pixpro-ins-loss-weight", &i.Weight, "weight of the loss of whole images", options.Above(0)),
		options.New("instance-tau", &i.Temperature, "temperature of the simclr loss of whole images", options.Above(0)),
	}
}

// Validate implements options.Validator.
func (i *Instance) Validate(*options.Options) error {
	if i.Branch == NoBranch {
		return &options.Error{Name: "instance", Value: i.Branch, Want: "method instance needs a loss of whole images: use byol or simclr"}
	}
	return nil
}

func init() {
	Register(instanceName, "whole images only",
		func() *Instance { return &Instance{Branch: NoBranch, Weight: 1, Temperature: 0.2} },
		func(b *Builder, i *Instance) (Loss, error) { return newInstance(b, i), nil })
}

// instanceLoss compares the averaged projections of whole images.
type instanceLoss struct {
	Instance
	queries, keys *model.Head
	predictor     *model.Head // of BYOL
}

func newInstance(b *Builder, i *Instance) *instanceLoss {
	l := &instanceLoss{Instance: *i}
	l.queries, l.keys = b.projector("projector_instance")
	if i.Branch == BYOL {
		l.predictor = model.NewHead(b.Query().In("predictor"), b.Options.HeadDim, b.Options.HeadHidden, b.Options.HeadDim)
	}
	return l
}

// Compute implements Loss. The loss of a pair is Weight times the sum of both
// directions for BYOL, and their mean for SimCLR.
func (l *instanceLoss) Compute(s *Step) Result {
	q := l.queries.Forward(s.Tape, s.Features())
	if l.predictor != nil {
		q = l.predictor.Forward(s.Tape, q)
	}
	q, k := average(s.Tape, q), average(s.KeyTape, l.keys.Forward(s.KeyTape, s.KeyFeatures()))
	return s.compare(q, k, s.Share*l.Weight, func(q, k *nn.Var, m device.Matching) device.Tensor {
		if l.Branch == SimCLR {
			m.Scale /= 2
			return nn.InfoNCELoss(s.Tape, q, k, m, l.Temperature)
		}
		return nn.SimilarityLoss(s.Tape, q, k, m)
	})
}

// average is the mean over a map's cells: N x 1 x 1 x C.
func average(t *nn.Tape, x *nn.Var) *nn.Var {
	return nn.AveragePool(t, x, device.Convolution{Kernel: x.Value.Shape[1], Stride: 1})
}

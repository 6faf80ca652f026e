package method

import (
	"math"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// PixPro are the options of PixPro's propagation module (section 3.3 of the
// paper).
type PixPro struct {
	Gamma           float64 // exponent of the similarity
	Clamp           float64 // least similarity
	TransformLayers int     // depth of the value transform: 0, 1 or 2
}

// Rows implements options.Section.
func (p *PixPro) Rows() []options.Row {
	return []options.Row{
		options.New("pixpro-p", &p.Gamma, "exponent of the propagation module's similarity", options.Above(0), options.Within(0, math.MaxFloat32)),
		options.New("pixpro-clamp-value", &p.Clamp, "least similarity in the propagation module, below 1", options.Fraction),
		options.New("pixpro-transform-layer", &p.TransformLayers, "layers of the propagation module's value transform: 0, 1 or 2", options.Within(0, 2)),
	}
}

func init() {
	Register("pixpro", "PixPro", func() *PixPro { return &PixPro{Gamma: 2, TransformLayers: 1} }, newPixPro)
}

// pixPro compares propagated query projections with the key projections of the
// other view's cells that show the same place (eq. 5 of the paper).
type pixPro struct {
	queries, keys *model.Head
	propagation   *model.Propagation
	ratio         float64
}

func newPixPro(b *Builder, p *PixPro) (Loss, error) {
	l := &pixPro{ratio: b.Options.PixProPositiveRatio}
	l.queries, l.keys = b.projector("projector")
	l.propagation = model.NewPropagation(b.Query(), b.Options.HeadDim, p.TransformLayers, device.Propagation{Gamma: p.Gamma, Clamp: p.Clamp})
	return l, nil
}

// Compute implements Loss. The loss of a pair is the sum of both directions, in
// [-4, 4].
func (l *pixPro) Compute(s *Step) Result {
	q := l.propagation.Forward(s.Tape, l.queries.Forward(s.Tape, s.Features()))
	k := l.keys.Forward(s.KeyTape, s.KeyFeatures())
	return s.compare(q, k, s.Share, func(q, k *nn.Var, m device.Matching) device.Tensor {
		m.CoordQ, m.CoordK, m.Threshold = s.Coords, s.Coords, l.ratio
		return nn.PixProLoss(s.Tape, q, k, m)
	})
}

// projector builds a projection head of both branches by the common options.
func (b *Builder) projector(name string) (query, key *model.Head) {
	return Twin(b, name, func(n nn.Builder) *model.Head {
		return model.NewHead(n, b.Channels, b.Options.HeadHidden, b.Options.HeadDim)
	})
}

package method

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// PixContrast are the options of PixContrast.
type PixContrast struct {
	Temperature float64
}

// Rows implements options.Section.
func (p *PixContrast) Rows() []options.Row {
	return []options.Row{
		options.New("pixcontrast-tau", &p.Temperature, "temperature of PixContrast", options.Above(0)),
	}
}

func init() {
	Register("pixcontrast", "PixContrast", func() *PixContrast { return &PixContrast{Temperature: 0.3} }, newPixContrast)
}

// pixContrast tells the other view's cells that show the same place from its
// other cells (eq. 2 of the paper).
type pixContrast struct {
	queries, keys      *model.Head
	ratio, temperature float64
}

func newPixContrast(b *Builder, p *PixContrast) (Loss, error) {
	l := &pixContrast{ratio: b.Options.PixProPositiveRatio, temperature: p.Temperature}
	l.queries, l.keys = b.projector("projector")
	return l, nil
}

// Compute implements Loss. The loss of a pair is the mean of both directions.
func (l *pixContrast) Compute(s *Step) Result {
	q, k := l.queries.Forward(s.Tape, s.Features()), l.keys.Forward(s.KeyTape, s.KeyFeatures())
	return s.compare(q, k, s.Share, func(q, k *nn.Var, m device.Matching) device.Tensor {
		m.CoordQ, m.CoordK, m.Threshold = s.Coords, s.Coords, l.ratio
		m.Scale /= 2
		return nn.PixContrastLoss(s.Tape, q, k, m, l.temperature)
	})
}

package main

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/options"
)

// pull is a method of its own: cells that show the same place are drawn
// together, and all cells apart. It has an option, --pull-apart, and heads as
// PixPro's.
type pull struct{ Apart float64 }

func (p *pull) Rows() []options.Row {
	return []options.Row{options.New("pull-apart", &p.Apart, "weight of the mean cosine of all cells", options.AtLeast(0.))}
}

func init() {
	method.Register("pull", "example", func() *pull { return &pull{Apart: 0.5} }, newPull)
}

type pullLoss struct {
	apart, ratio  float64
	queries, keys *model.Head
}

func newPull(b *method.Builder, p *pull) (method.Loss, error) {
	l := &pullLoss{apart: p.Apart, ratio: b.Options.PixProPositiveRatio}
	l.queries, l.keys = method.Twin(b, "projector", func(n nn.Builder) *model.Head {
		return model.NewHead(n, b.Channels, b.Options.HeadHidden, b.Options.HeadDim)
	})
	return l, nil
}

// Compute is composed of operations on the tape, which finds their gradients.
func (l *pullLoss) Compute(s *method.Step) method.Result {
	t := s.Tape
	q := nn.Normalize(t, l.queries.Forward(t, s.Features()))
	k := nn.Normalize(s.KeyTape, l.keys.Forward(s.KeyTape, s.KeyFeatures()))
	n, rows, cols, c := q.Value.Shape[0], q.Value.Shape[1], q.Value.Shape[2], q.Value.Channels()
	cells := rows * cols

	match := device.Matching{CoordQ: s.Coords, CoordK: s.Coords, Threshold: l.ratio, KeyShift: n / 2}
	mask := nn.Positives(t, n, rows, cols, match)
	keys := nn.Roll(t, k, n/2) // each view's keys are now those of the other one
	cosines := nn.Multiply(t, nn.Reshape(t, q, n, cells, c), nn.Reshape(t, keys, n, cells, c), true)
	cosines = nn.Reshape(t, cosines, n, cells*cells)
	all := nn.Mean(t, cosines.Retain(), nil)
	matching := nn.Mean(t, cosines, nn.Reshape(t, mask, n, cells*cells))
	return method.Result{Loss: s.Sum(nn.Combine(t, l.apart, all, -1, matching), s.Share/float64(n))}
}

package model

import (
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// Head is a projection head: 1x1 convolution, batch norm, ReLU, 1x1 convolution.
type Head struct {
	linear1, linear2 *nn.Conv
	bn               *nn.BatchNorm
}

// NewHead builds a head from in over hidden to out channels.
func NewHead(b nn.Builder, in, hidden, out int) *Head {
	return &Head{
		linear1: b.Pointwise("linear1", in, hidden),
		bn:      b.BatchNorm("bn1", hidden),
		linear2: b.Pointwise("linear2", hidden, out),
	}
}

// Forward projects every cell.
func (h *Head) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	return h.linear2.Forward(t, h.bn.Forward(t, h.linear1.Forward(t, x), nil, true))
}

// Propagation is the pixel propagation module (section 3.3 of the paper): each
// cell becomes the sum of all cells' transformed values, weighted by their
// similarity to it.
type Propagation struct {
	device.Propagation
	value interface { // nil: the cells themselves are the values
		Forward(*nn.Tape, *nn.Var) *nn.Var
	}
}

// NewPropagation builds the module; layers is the depth of the value
// transform: none, a 1x1 convolution, or a head.
func NewPropagation(b nn.Builder, dim, layers int, p device.Propagation) *Propagation {
	m := &Propagation{Propagation: p}
	switch layers {
	case 1:
		m.value = b.Pointwise("value_transform", dim, dim)
	case 2:
		m.value = NewHead(b.In("value_transform"), dim, dim, dim)
	}
	return m
}

// Forward propagates projections x, N x H x W x C.
func (p *Propagation) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	units := nn.Normalize(t, x.Retain())
	values := x
	if p.value != nil {
		values = p.value.Forward(t, x)
	}
	return nn.Propagate(t, units, nn.Normalize(t, values), p.Propagation)
}

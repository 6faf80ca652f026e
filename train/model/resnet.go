// Package model has the networks that methods are made of: residual encoders,
// projection heads, and the pixel propagation module.
package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// ResNet describes a residual network (He et al. 2016) by torchvision's
// conventions.
type ResNet struct {
	Depths     [Stages]int // blocks in each stage
	Bottleneck bool        // 1x1, 3x3, 1x1 blocks that widen four times, instead of 3x3, 3x3
	Base       int         // channels of the first stage, 64 by default
	Stem       string      // StemImageNet, StemNoPool or StemSmall
	// Of bottlenecks: groups of the 3x3 convolution, and channels of a group in
	// the first stage where Base is 64. 0 is 1 and 64.
	Groups, GroupWidth int
	// Deep is the variant "d" (He et al. 2019): three 3x3 convolutions as the
	// stem, shortcuts that average instead of skipping pixels.
	Deep bool
	// Dilated keeps the last stage at the resolution of the one before it.
	Dilated bool
}

// The stems: what lies between the image and the first stage.
const (
	StemImageNet = "imagenet" // 7x7 convolution of stride 2 and pooling: a cell is 32 pixels wide
	StemNoPool   = "nopool"   // the same without the pooling: 16 pixels
	StemSmall    = "small"    // 3x3 convolution of stride 1: 8 pixels
)

// Stems lists the stems.
func Stems() []string { return []string{StemImageNet, StemNoPool, StemSmall} }

var architectures = map[string]ResNet{
	"resnet18":         {Depths: [4]int{2, 2, 2, 2}},
	"resnet34":         {Depths: [4]int{3, 4, 6, 3}},
	"resnet50":         {Depths: [4]int{3, 4, 6, 3}, Bottleneck: true},
	"resnet101":        {Depths: [4]int{3, 4, 23, 3}, Bottleneck: true},
	"resnet152":        {Depths: [4]int{3, 8, 36, 3}, Bottleneck: true},
	"wide_resnet50_2":  {Depths: [4]int{3, 4, 6, 3}, Bottleneck: true, GroupWidth: 128},
	"resnext101_32x8d": {Depths: [4]int{3, 4, 23, 3}, Bottleneck: true, Groups: 32, GroupWidth: 8},
}

// The published implementation's variants, endings of an architecture's name.
const (
	deepEnding    = "_d"
	doubleEnding  = "_w2x"
	dilatedEnding = "_16s"
)

// Lookup returns an architecture by torchvision's name, with channels
// multiplied by width and the given stem. The name may end in the published
// implementation's _d (deep stem), _w2x (twice the channels) and _16s (dilated
// last stage).
func Lookup(arch, stem string, width float64) (ResNet, error) {
	name, deep := strings.CutSuffix(arch, deepEnding)
	name, dilated := strings.CutSuffix(name, dilatedEnding)
	name, double := strings.CutSuffix(name, doubleEnding)
	r, ok := architectures[name]
	if !ok {
		return r, fmt.Errorf("unknown architecture %q: use one of %s; resnets also with %s, %s, %s in this order",
			arch, strings.Join(slices.Sorted(maps.Keys(architectures)), ", "), doubleEnding, dilatedEnding, deepEnding)
	}
	if dilated && !r.Bottleneck {
		return r, fmt.Errorf("architecture %q: only networks of bottlenecks, resnet50 and deeper, have a dilated form", arch)
	}
	if !(width > 0 && width <= 8) {
		return r, fmt.Errorf("width %g: use a factor above 0 and up to 8", width)
	}
	if double {
		width *= 2
	}
	r.Base = max(1, int(64*width+0.5))
	r.Deep, r.Dilated, r.Stem = deep, dilated, stem
	if inner := r.inner(r.Base); inner%max(r.Groups, 1) != 0 || inner == 0 {
		return r, fmt.Errorf("width %g: the %d channels of %s do not divide into %d groups", width, inner, arch, r.Groups)
	}
	if !slices.Contains(Stems(), stem) {
		return r, fmt.Errorf("unknown stem %q: use imagenet, nopool or small", stem)
	}
	return r, nil
}

// inner is the number of channels inside a bottleneck of the given planes.
func (r ResNet) inner(planes int) int {
	if r.GroupWidth == 0 {
		return planes
	}
	return planes * r.GroupWidth / 64 * max(r.Groups, 1)
}

// Stride is how many pixels wide a cell of the feature map is.
func (r ResNet) Stride() int {
	stride := 32
	switch r.Stem {
	case StemSmall:
		stride = 8
	case StemNoPool:
		stride = 16
	}
	if r.Dilated {
		stride /= 2
	}
	return stride
}

// Channels is the number of channels of the feature map.
func (r ResNet) Channels() int { return r.Base * 8 * r.expansion() }

func (r ResNet) expansion() int {
	if r.Bottleneck {
		return 4
	}
	return 1
}

// Encoder is a residual network without pooling and classifier at its end.
type Encoder struct {
	stem   []layer
	pool   bool
	blocks []*block
	stages [Stages]int // blocks up to the end of each stage
}

// Stages is the number of a residual network's stages.
const Stages = 4

// layer is a convolution with its batch norm.
type layer struct {
	conv *nn.Conv
	bn   *nn.BatchNorm
}

func (l layer) forward(t *nn.Tape, x, residual *nn.Var, relu bool) *nn.Var {
	return l.bn.Forward(t, l.conv.Forward(t, x), residual, relu)
}

// The pooling after the stem.
var stemPool = device.Convolution{Kernel: 3, Stride: 2, Padding: 1}

// square is a convolution that keeps the map's size at stride 1.
func square(kernel, stride int) device.Convolution {
	return device.Convolution{Kernel: kernel, Stride: stride, Padding: kernel / 2}
}

// NewEncoder builds the network with parameters named as torchvision names them.
func NewEncoder(b nn.Builder, r ResNet) *Encoder {
	e := &Encoder{stem: newStem(b, r), pool: r.Stem == StemImageNet}
	in := r.Base
	for stage, depth := range r.Depths {
		planes := r.Base << stage
		for i := range depth {
			s := blockShape{ResNet: r, in: in, planes: planes, out: planes * r.expansion(), stride: 1, dilation: 1}
			last := stage == len(r.Depths)-1
			if last && r.Dilated {
				s.dilation = 2
			} else if stage > 0 && i == 0 {
				s.stride = 2
			}
			e.blocks = append(e.blocks, newBlock(b.In(fmt.Sprintf("layer%d.%d", stage+1, i)), s))
			in = s.out
		}
		e.stages[stage] = len(e.blocks)
	}
	return e
}

func newStem(b nn.Builder, r ResNet) []layer {
	stride := 2
	if r.Stem == StemSmall {
		stride = 1
	}
	if !r.Deep {
		kernel := 7
		if r.Stem == StemSmall {
			kernel = 3
		}
		return []layer{{b.Conv("conv1", 3, r.Base, square(kernel, stride)), b.BatchNorm("bn1", r.Base)}}
	}
	half := max(1, r.Base/2)
	first, second := b.In("conv1").In("0"), b.In("conv1").In("1")
	return []layer{
		{first.Conv("0", 3, half, square(3, stride)), first.BatchNorm("1", half)},
		{second.Conv("0", half, half, square(3, 1)), second.BatchNorm("1", half)},
		{b.In("conv1").Conv("2", half, r.Base, square(3, 1)), b.BatchNorm("bn1", r.Base)},
	}
}

// Forward computes the feature map, N x h x w x Channels, of normalised
// images, N x H x W x 3.
func (e *Encoder) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	return e.ForwardTo(t, x, Stages)
}

// ForwardTo computes the map at the end of a stage, counted from 1.
func (e *Encoder) ForwardTo(t *nn.Tape, x *nn.Var, stage int) *nn.Var {
	for _, l := range e.stem {
		x = l.forward(t, x, nil, true)
	}
	if e.pool {
		x = nn.MaxPool(t, x, stemPool)
	}
	for _, b := range e.blocks[:e.stages[stage-1]] {
		x = b.forward(t, x)
	}
	return x
}

// block is a residual block: layers with ReLU between them and after the sum
// with the shortcut.
type block struct {
	layers   []layer
	shortcut *layer             // nil where the input fits as it is
	average  device.Convolution // what the shortcut averages; kernel 0 for none
}

type blockShape struct {
	ResNet
	in, planes, out  int
	stride, dilation int
}

func newBlock(b nn.Builder, s blockShape) *block {
	bl := &block{}
	add := func(in, out int, c device.Convolution) {
		n := fmt.Sprint(len(bl.layers) + 1)
		bl.layers = append(bl.layers, layer{b.Conv("conv"+n, in, out, c), b.BatchNorm("bn"+n, out)})
	}
	if s.Bottleneck {
		inner, middle := s.inner(s.planes), square(3, s.stride)
		middle.Padding, middle.Dilation, middle.Groups = s.dilation, s.dilation, s.Groups
		add(s.in, inner, square(1, 1))
		add(inner, inner, middle)
		add(inner, s.out, square(1, 1))
	} else {
		add(s.in, s.planes, square(3, s.stride))
		add(s.planes, s.out, square(3, 1))
	}
	if s.stride == 1 && s.in == s.out {
		return bl
	}
	down := b.In("downsample")
	if !s.Deep {
		bl.shortcut = &layer{down.Conv("0", s.in, s.out, square(1, s.stride)), down.BatchNorm("1", s.out)}
		return bl
	}
	// The published module has the pooling as its part 0, at stride 1 too, where it does nothing.
	if s.stride > 1 {
		bl.average = device.Convolution{Kernel: s.stride, Stride: s.stride}
	}
	bl.shortcut = &layer{down.Conv("1", s.in, s.out, square(1, 1)), down.BatchNorm("2", s.out)}
	return bl
}

func (b *block) forward(t *nn.Tape, x *nn.Var) *nn.Var {
	shortcut := x.Retain()
	if b.average.Kernel > 0 {
		shortcut = nn.AveragePool(t, shortcut, b.average)
	}
	if b.shortcut != nil {
		shortcut = b.shortcut.forward(t, shortcut, nil, false)
	}
	last := len(b.layers) - 1
	for _, l := range b.layers[:last] {
		x = l.forward(t, x, nil, true)
	}
	return b.layers[last].forward(t, x, shortcut, true)
}

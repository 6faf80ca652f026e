// Package model has the networks of pixel-level pre-training: residual
// encoders, projection heads, and the pixel propagation module.
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
	Depths     [4]int // blocks in each stage
	Bottleneck bool   // 1x1, 3x3, 1x1 blocks that widen four times, instead of 3x3, 3x3
	Base       int    // channels of the first stage, 64 by default
	Stem       string // StemImageNet, StemNoPool or StemSmall
}

// The stems: what lies between the image and the first stage.
const (
	StemImageNet = "imagenet" // 7x7 convolution of stride 2 and pooling: a cell is 32 pixels wide
	StemNoPool   = "nopool"   // the same without the pooling: 16 pixels
	StemSmall    = "small"    // 3x3 convolution of stride 1: 8 pixels
)

var architectures = map[string]ResNet{
	"resnet18":  {Depths: [4]int{2, 2, 2, 2}},
	"resnet34":  {Depths: [4]int{3, 4, 6, 3}},
	"resnet50":  {Depths: [4]int{3, 4, 6, 3}, Bottleneck: true},
	"resnet101": {Depths: [4]int{3, 4, 23, 3}, Bottleneck: true},
	"resnet152": {Depths: [4]int{3, 8, 36, 3}, Bottleneck: true},
}

// Lookup returns an architecture by torchvision's name, with channels
// multiplied by width and the given stem.
func Lookup(arch, stem string, width float64) (ResNet, error) {
	r, ok := architectures[arch]
	if !ok {
		return r, fmt.Errorf("unknown architecture %q: use one of %s", arch, strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	if width <= 0 || width > 8 {
		return r, fmt.Errorf("width %g: use a factor above 0 and up to 8", width)
	}
	r.Base = max(1, int(64*width+0.5))
	r.Stem = stem
	if !slices.Contains([]string{StemImageNet, StemNoPool, StemSmall}, stem) {
		return r, fmt.Errorf("unknown stem %q: use imagenet, nopool or small", stem)
	}
	return r, nil
}

// Stride is how many pixels wide a cell of the feature map is.
func (r ResNet) Stride() int {
	switch r.Stem {
	case StemSmall:
		return 8
	case StemNoPool:
		return 16
	}
	return 32
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
	stem   *nn.Conv
	bn     *nn.BatchNorm
	pool   bool
	blocks []*block
}

// The pooling after the first convolution.
var stemPool = device.Convolution{Kernel: 3, Stride: 2, Padding: 1}

// NewEncoder builds the network with parameters named as torchvision names them.
func NewEncoder(b nn.Builder, r ResNet) *Encoder {
	geometry := device.Convolution{Kernel: 7, Stride: 2, Padding: 3}
	if r.Stem == StemSmall {
		geometry = device.Convolution{Kernel: 3, Stride: 1, Padding: 1}
	}
	e := &Encoder{
		stem: b.Conv("conv1", 3, r.Base, geometry),
		bn:   b.BatchNorm("bn1", r.Base),
		pool: r.Stem == StemImageNet,
	}
	in := r.Base
	for stage, depth := range r.Depths {
		planes := r.Base << stage
		for i := range depth {
			stride := 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			e.blocks = append(e.blocks, newBlock(b.In(fmt.Sprintf("layer%d.%d", stage+1, i)), in, planes, planes*r.expansion(), stride, r.Bottleneck))
			in = planes * r.expansion()
		}
	}
	return e
}

// Forward computes the feature map, N x h x w x Channels, of normalised
// images, N x H x W x 3.
func (e *Encoder) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	x = e.bn.Forward(t, e.stem.Forward(t, x), nil, true)
	if e.pool {
		x = nn.MaxPool(t, x, stemPool)
	}
	for _, b := range e.blocks {
		x = b.forward(t, x)
	}
	return x
}

// block is a residual block: convolutions with batch norms, ReLU between them
// and after the sum with the shortcut.
type block struct {
	convs        []*nn.Conv
	bns          []*nn.BatchNorm
	shortcut     *nn.Conv // nil where the input fits as it is
	shortcutNorm *nn.BatchNorm
}

func newBlock(b nn.Builder, in, planes, out, stride int, bottleneck bool) *block {
	bl := &block{}
	add := func(in, out, kernel, stride int) {
		n := fmt.Sprint(len(bl.convs) + 1)
		bl.convs = append(bl.convs, b.Conv("conv"+n, in, out, device.Convolution{Kernel: kernel, Stride: stride, Padding: kernel / 2}))
		bl.bns = append(bl.bns, b.BatchNorm("bn"+n, out))
	}
	if bottleneck {
		add(in, planes, 1, 1)
		add(planes, planes, 3, stride)
		add(planes, out, 1, 1)
	} else {
		add(in, planes, 3, stride)
		add(planes, out, 3, 1)
	}
	if stride != 1 || in != out {
		down := b.In("downsample")
		bl.shortcut = down.Conv("0", in, out, device.Convolution{Kernel: 1, Stride: stride})
		bl.shortcutNorm = down.BatchNorm("1", out)
	}
	return bl
}

func (b *block) forward(t *nn.Tape, x *nn.Var) *nn.Var {
	shortcut := x.Retain()
	if b.shortcut != nil {
		shortcut = b.shortcutNorm.Forward(t, b.shortcut.Forward(t, shortcut), nil, false)
	}
	last := len(b.convs) - 1
	for i, conv := range b.convs[:last] {
		x = b.bns[i].Forward(t, conv.Forward(t, x), nil, true)
	}
	return b.bns[last].Forward(t, b.convs[last].Forward(t, x), shortcut, true)
}

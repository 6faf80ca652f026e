package device

import "fmt"

// Window is the explicit geometry of a convolution or pooling: from Images x Height x
// Width x Channels to Images x OutHeight x OutWidth x Outs.
type Window struct {
	Convolution
	Images, Height, Width, Channels int
	OutHeight, OutWidth, Outs       int
}

// NewWindow is the geometry that takes x to y; tensors of other shapes are a
// programming error.
func NewWindow(x, y Tensor, c Convolution) Window {
	w := Window{c.Explicit(), x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3], y.Shape[1], y.Shape[2], y.Shape[3]}
	if y.Shape[0] != w.Images || w.OutHeight != c.Output(w.Height) || w.OutWidth != c.Output(w.Width) {
		panic(fmt.Sprintf("device: a %d/%d/%d window takes %v to %v", c.Kernel, c.Stride, c.Padding, x.Shape, y.Shape))
	}
	return w
}

// Size is the number of values in a receptive field: Kernel x Kernel x Channels.
func (w *Window) Size() int { return w.Kernel * w.Kernel * w.Channels }

// Direct says that receptive fields lie in the input as they are.
func (w *Window) Direct() bool {
	return w.Kernel == 1 && w.Stride == 1 && w.Padding == 0 && w.Groups == 1
}

// CheckWeights makes sure that weights are Outs x Channels / Groups x Kernel x
// Kernel; others are a programming error.
func (w *Window) CheckWeights(weights Tensor) {
	groups := w.Groups
	if w.Outs%groups != 0 || w.Channels%groups != 0 || weights.Len() != w.Outs*w.Size()/groups || weights.Shape[0] != w.Outs {
		panic(fmt.Sprintf("device: weights %v for %d of %d channels in %d groups, %d x %d", weights.Shape, w.Outs, w.Channels, groups, w.Kernel, w.Kernel))
	}
}

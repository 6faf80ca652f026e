package nn

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Parameter is a named tensor of a model: a weight, a bias, a running statistic
// of a batch normalisation, or what a loss remembers.
type Parameter struct {
	Name  string
	Shape []int // as in PyTorch; weights of convolutions are Cout x Cin x K x K
	Value device.Tensor
	Grad  device.Tensor // absent for statistics and in models without gradients
	// Statistic marks what no optimiser touches, such as running means and
	// variances.
	Statistic bool
}

// ErrParameters is the class of errors about tensors that are missing or of
// another shape than a model's parameters.
var ErrParameters = errors.New("parameters do not fit the model")

// Match returns the numbers of the tensor that find has under the parameter's
// name. Errors are of class ErrParameters where it has none or one of another
// shape, and else say why its elements are not numbers of this kind.
func (p *Parameter) Match(find func(name string) (safetensors.Tensor, bool)) ([]float32, error) {
	t, ok := find(p.Name)
	if !ok {
		return nil, fmt.Errorf("%w: %s is missing", ErrParameters, p.Name)
	}
	if !slices.Equal(t.Shape, p.Shape) {
		return nil, fmt.Errorf("%w: %s is %v, the model's is %v", ErrParameters, p.Name, t.Shape, p.Shape)
	}
	return t.Float32s()
}

// Load sets the value from numbers in PyTorch's layout.
func (p *Parameter) Load(d device.Device, values []float32) error {
	return p.LoadLike(d, p.Value, values)
}

// LoadLike sets a tensor that is laid out as the value, such as its momentum,
// from numbers in PyTorch's layout.
func (p *Parameter) LoadLike(d device.Device, t device.Tensor, values []float32) error {
	if len(values) != device.Elements(p.Shape) {
		return fmt.Errorf("parameter %s has %d elements %v, not %d", p.Name, device.Elements(p.Shape), p.Shape, len(values))
	}
	d.Upload(t, channelsLast(values, p.Shape))
	return nil
}

// Read returns the value in PyTorch's layout.
func (p *Parameter) Read(d device.Device) []float32 { return p.ReadLike(d, p.Value) }

// ReadLike returns a tensor that is laid out as the value, such as its
// gradient, in PyTorch's layout.
func (p *Parameter) ReadLike(d device.Device, t device.Tensor) []float32 {
	values := make([]float32, t.Len())
	d.Download(values, t)
	return channelsFirst(values, p.Shape)
}

// channelsLast reorders Cout x Cin x K x K to Cout x K x K x Cin; other shapes
// stay as they are.
func channelsLast(values []float32, shape []int) []float32 {
	return transposeInner(values, shape, func(in, cell, channels, cells int) (from, to int) {
		return in*cells + cell, cell*channels + in
	})
}

// channelsFirst is the inverse of channelsLast.
func channelsFirst(values []float32, shape []int) []float32 {
	return transposeInner(values, shape, func(in, cell, channels, cells int) (from, to int) {
		return cell*channels + in, in*cells + cell
	})
}

func transposeInner(values []float32, shape []int, places func(in, cell, channels, cells int) (from, to int)) []float32 {
	if len(shape) != 4 || shape[2]*shape[3] == 1 {
		return values
	}
	channels, cells := shape[1], shape[2]*shape[3]
	out := make([]float32, len(values))
	for base := 0; base < len(values); base += channels * cells {
		for in := range channels {
			for cell := range cells {
				from, to := places(in, cell, channels, cells)
				out[base+to] = values[base+from]
			}
		}
	}
	return out
}

// Builder makes layers and collects their parameters in order.
type Builder struct {
	Device device.Device
	// Seed and a parameter's name decide its initial value.
	Seed uint64
	// Gradients says that the parameters are trained.
	Gradients bool
	Prefix    string
	List      *[]*Parameter
}

// In returns the builder for a part of the model; names get the prefix "name.".
func (b Builder) In(name string) Builder {
	b.Prefix += name + "."
	return b
}

func (b Builder) parameter(name string, shape []int, statistic bool, value func(i int) float32) *Parameter {
	p := &Parameter{Name: b.Prefix + name, Shape: shape, Statistic: statistic}
	deviceShape := shape
	if len(shape) == 4 {
		deviceShape = []int{shape[0], shape[2], shape[3], shape[1]}
	}
	p.Value = b.Device.Alloc(deviceShape...)
	values := make([]float32, p.Value.Len())
	for i := range values {
		values[i] = value(i)
	}
	b.Device.Upload(p.Value, channelsLast(values, shape))
	if b.Gradients && !statistic {
		p.Grad = b.Device.Alloc(deviceShape...)
		b.Device.Zero(p.Grad)
	}
	*b.List = append(*b.List, p)
	return p
}

// Statistic makes a parameter that no optimiser touches and that checkpoints
// keep, such as what a loss remembers from batch to batch. fill sets its values,
// 0 before, by a source of random numbers of its own.
func (b Builder) Statistic(name string, shape []int, fill func(values []float32, rng *rand.Rand)) *Parameter {
	values := make([]float32, device.Elements(shape))
	fill(values, b.random(name))
	return b.parameter(name, shape, true, func(i int) float32 { return values[i] })
}

// random is the source of a parameter's initial value.
func (b Builder) random(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(b.Prefix + name))
	return rand.New(rand.NewPCG(b.Seed, h.Sum64()))
}

func constant(v float32) func(int) float32 { return func(int) float32 { return v } }

// uniform is PyTorch's default for convolutions and their biases (Kaiming
// uniform with a = sqrt 5): evenly in +-1/sqrt(fanIn).
func uniform(rng *rand.Rand, fanIn int) func(int) float32 {
	bound := 1 / math.Sqrt(float64(fanIn))
	return func(int) float32 { return float32((rng.Float64()*2 - 1) * bound) }
}

// normal is torchvision's initialisation of a ResNet's convolutions (Kaiming
// normal for ReLU, He et al. 2015): deviation sqrt(2/fanOut).
func normal(rng *rand.Rand, fanOut int) func(int) float32 {
	std := math.Sqrt(2 / float64(fanOut))
	return func(int) float32 { return float32(rng.NormFloat64() * std) }
}

// Command budget counts what a training step takes on a card, on paper: the
// operations and the least bytes of each part, each operand once, and how long
// that lasts at a card's rates. It prints the table of docs/performance.md.
//
//	go run ./tools/cuda/budget [-arch resnet50] [-size 224] [-batch 128]
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/dry"
)

// NVIDIA's figures for one H100 SXM5, without sparsity.
const (
	bandwidth = 3.35e12 // bytes a second
	rateFP32  = 67e12   // operations a second
	rateTF32  = 494.7e12
	rateBF16  = 989.4e12
)

// parts in the order of a step.
var parts = []string{
	"views to floats", "key update", "key branch: convolutions", "key branch: batch norm, pooling",
	"query branch: convolutions", "query branch: batch norm, pooling", "channel norms", "propagation", "losses",
	"backward: convolutions, data", "backward: convolutions, weights", "backward: batch norm, pooling, sums", "LARS",
}

func main() {
	cfg := configuration()
	flag.StringVar(&cfg.Arch, "arch", "resnet50", "architecture")
	flag.IntVar(&cfg.Size, "size", 224, "side of a view in pixels")
	flag.IntVar(&cfg.BatchSize, "batch", 128, "pairs of views in a step")
	flag.Parse()
	if err := print(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "budget:", err)
		os.Exit(1)
	}
}

// configuration is train's own.
func configuration() train.Options {
	cfg := train.DefaultOptions()
	cfg.Shards, cfg.Output = ".", "." // never touched
	return cfg
}

func print(cfg train.Options) error {
	text, err := table(cfg)
	if err == nil {
		fmt.Print(text)
	}
	return err
}

// table is in Markdown.
func table(cfg train.Options) (string, error) {
	wide, err := count(cfg, 4)
	if err != nil {
		return "", err
	}
	narrow, err := count(cfg, 2)
	if err != nil {
		return "", err
	}
	var s strings.Builder
	s.WriteString("| part | TFLOP | GB, float32 | GB, bf16 | ms, fp32 | ms, tf32 | ms, bf16 |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	row := func(name string, a, b work) {
		fmt.Fprintf(&s, "| %s | %.3f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", name, a.flops/1e12, a.bytes/1e9, b.bytes/1e9, 1e3*a.fp32, 1e3*a.tf32, 1e3*b.bf16)
	}
	var a, b work
	for _, p := range parts {
		row(p, wide.done[p], narrow.done[p])
		a.add(wide.done[p])
		b.add(narrow.done[p])
	}
	row("**step**", a, b)
	pairs := float64(cfg.BatchSize)
	fmt.Fprintf(&s, "| **pairs a second** | | | | %.0f | %.0f | %.0f |\n", pairs/a.fp32, pairs/a.tf32, pairs/b.bf16)
	return s.String(), nil
}

// work is an amount of it, and how long it lasts at least: the sum of what its
// calls do, each bound by arithmetic or by memory.
type work struct{ flops, bytes, fp32, tf32, bf16 float64 }

func (w *work) add(v work) {
	w.flops += v.flops
	w.bytes += v.bytes
	w.fp32 += v.fp32
	w.tf32 += v.tf32
	w.bf16 += v.bf16
}

// counter is a device that counts by parts.
type counter struct {
	dry.Device
	half bool
	done map[string]work
	keys map[device.Memory]bool // parameters of the key branch
}

type memory struct {
	floats int
	size   int64 // bytes of a value
}

func (m *memory) Floats() int { return m.floats }

// count makes steps whose activations take so many bytes a value, and returns
// the mean of them.
func count(cfg train.Options, size int64) (*counter, error) {
	c := &counter{half: size == 2, done: map[string]work{}, keys: map[device.Memory]bool{}}
	const steps = 3 // TimeSteps makes one before and one behind
	if _, err := train.TimeSteps(c, cfg, steps-2); err != nil {
		return nil, err
	}
	for p, w := range c.done {
		c.done[p] = work{w.flops / steps, w.bytes / steps, w.fp32 / steps, w.tf32 / steps, w.bf16 / steps}
	}
	return c, nil
}

// did counts a call that reads or writes each of the tensors once.
func (c *counter) did(part string, flops int, tensors ...device.Tensor) {
	var bytes int64
	for _, t := range tensors {
		if t.Exists() {
			bytes += int64(t.Len()) * t.Memory.(*memory).size
		}
	}
	f, b := float64(flops), float64(bytes)
	w := work{flops: f, bytes: b, fp32: max(f/rateFP32, b/bandwidth), tf32: max(f/rateTF32, b/bandwidth), bf16: max(f/rateBF16, b/bandwidth)}
	sum := c.done[part]
	sum.add(w)
	c.done[part] = sum
}

// branch names the part of a forward call by its parameters.
func (c *counter) branch(parameter device.Tensor, what string) string {
	if c.keys[parameter.Memory] {
		return "key branch: " + what
	}
	return "query branch: " + what
}

const small = "batch norm, pooling"

func (c *counter) alloc(size int64, shape []int) device.Tensor {
	return device.Tensor{Shape: shape, Memory: &memory{device.Elements(shape), size}}
}

func (c *counter) Alloc(shape ...int) device.Tensor { return c.alloc(4, shape) }
func (c *counter) AllocActivation(shape ...int) device.Tensor {
	if c.half {
		return c.alloc(2, shape)
	}
	return c.alloc(4, shape)
}
func (c *counter) Free(device.Tensor) {}

func (c *counter) Add(dst, src device.Tensor) {
	c.did("backward: "+small+", sums", 0, dst, dst, src)
}
func (c *counter) UploadViews(dst device.Tensor, views [2][]uint8, _, _ [3]float64) {
	c.did("views to floats", 0, dst, device.Tensor{Shape: []int{2 * len(views[0])}, Memory: &memory{0, 1}})
}
func (c *counter) Convolve(y, x, w, _ device.Tensor, _ device.Convolution) {
	c.did(c.branch(w, "convolutions"), 2*y.Rows()*w.Len(), y, x, w)
}
func (c *counter) ConvolveBackwardData(dx, dy, w device.Tensor, _ device.Convolution, _ bool) {
	c.did("backward: convolutions, data", 2*dy.Rows()*w.Len(), dx, dy, w)
}
func (c *counter) ConvolveBackwardWeights(dw, _, dy, x device.Tensor, _ device.Convolution) {
	c.did("backward: convolutions, weights", 2*dy.Rows()*dw.Len(), dw, dy, x)
}
func (c *counter) BatchNorm(y, x, residual device.Tensor, b *device.BatchNorm) {
	c.did(c.branch(b.Weight, small), 0, y, x, residual)
}
func (c *counter) BatchNormBackward(dx, dy, x, y device.Tensor, b *device.BatchNorm) {
	tensors := []device.Tensor{dx, dy, x}
	if b.ReLU {
		tensors = append(tensors, y)
	}
	if dx.Memory != dy.Memory {
		tensors = append(tensors, dy) // it becomes the residual's gradient
	}
	c.did("backward: "+small+", sums", 0, tensors...)
}
func (c *counter) MaxPool(y, x device.Tensor, _ device.Convolution) {
	// The key branch's pooling, which has no parameters, is counted here too.
	c.did("query branch: "+small, 0, y, x)
}
func (c *counter) MaxPoolBackward(dx, dy, x, y device.Tensor, _ device.Convolution) {
	c.did("backward: "+small+", sums", 0, dx, dy, x, y)
}
func (c *counter) Normalize(y, _, x device.Tensor) { c.did("channel norms", 0, y, x) }
func (c *counter) NormalizeBackward(dx, dy, y, _ device.Tensor) {
	c.did("channel norms", 0, dx, dy, y)
}

// pixels is the operations of n products between all cells of u's images.
func pixels(u device.Tensor, n int) int {
	cells := u.Shape[1] * u.Shape[2]
	return 2 * n * u.Shape[0] * cells * cells * u.Channels()
}

func (c *counter) Propagate(y, cosines, u, g device.Tensor, _ device.Propagation) {
	c.did("propagation", pixels(u, 2), y, cosines, u, g)
}
func (c *counter) PropagateBackward(du, dg, dy, cosines, u, g device.Tensor, _ device.Propagation) {
	c.did("propagation", pixels(u, 4), du, dg, dy, cosines, u, g)
}
func (c *counter) PixProLoss(losses, dq, q, k device.Tensor, _ device.Matching) {
	c.did("losses", pixels(q, 2), losses, dq, q, k)
}
func (c *counter) Update(p, buffer, g device.Tensor, _ device.Update) {
	c.did("LARS", 0, p, p, buffer, buffer, g)
}
func (c *counter) MovingAverage(key, query device.Tensor, _ float64) {
	c.keys[key.Memory] = true
	c.did("key update", 0, key, key, query)
}

package devicetest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// goldenFile is a file of reference tensors, grouped by the part of their
// names before the last dot that follows the case's name.
type goldenFile struct {
	*harness
	file *safetensors.File
}

func (h *harness) golden(name string) goldenFile {
	f, err := safetensors.Read(golden.Path(h.T, "train", name))
	if err != nil {
		h.Fatal(err)
	}
	return goldenFile{h, f}
}

// cases lists the names of the cases that begin with prefix.
func (g goldenFile) cases(prefix string) []string {
	var names []string
	for _, name := range g.file.Names() {
		if strings.HasPrefix(name, prefix) {
			// The tensor's own name has a dot for "pixpro.loss", the case's for "gamma0.5".
			m := regexp.MustCompile(`^(\w+?[0-9]+\.[0-9]+|\w+)\.`).FindStringSubmatch(name)
			if m == nil {
				g.Fatalf("golden tensor %q has no case", name)
			}
			names = append(names, m[1])
		}
	}
	names = slices.Compact(names)
	if len(names) == 0 {
		g.Fatalf("no golden case begins with %q", prefix)
	}
	return names
}

// array reads a tensor as it is stored.
func (g goldenFile) array(name string) array {
	t, ok := g.file.Tensor(name)
	if !ok {
		g.Fatalf("golden tensor %q is missing", name)
	}
	values, err := t.Float64s()
	if err != nil {
		g.Fatal(err)
	}
	return array{t.Shape, values}
}

// channelsLast reads an N x C x H x W tensor as N x H x W x C.
func (g goldenFile) channelsLast(name string) array {
	a := g.array(name)
	n, c, rows, cols := a.shape[0], a.shape[1], a.shape[2], a.shape[3]
	out := newArray(n, rows, cols, c)
	for i, v := range a.data {
		image, channel, cell := i/(c*rows*cols), i/(rows*cols)%c, i%(rows*cols)
		out.data[out.at(image, cell/cols, cell%cols, channel)] = v
	}
	return out
}

func testGoldenLayers(h *harness) {
	g := h.golden("layers.safetensors")
	geometry := regexp.MustCompile(`_k(\d+)_s(\d+)_p(\d+)$`)
	for _, name := range g.cases("conv") {
		m := geometry.FindStringSubmatch(name)
		if m == nil {
			h.Fatalf("golden case %q does not name its kernel, stride and padding", name)
		}
		number := func(s string) int { n, _ := strconv.Atoi(s); return n }
		c := device.Convolution{Kernel: number(m[1]), Stride: number(m[2]), Padding: number(m[3])}
		x, w, dy := h.activation(g.channelsLast(name+".x")), h.put(g.channelsLast(name+".w")), h.activation(g.channelsLast(name+".dy"))
		y, dx, dw := h.output(dy.Shape...), h.output(x.Shape...), h.zeros(w.Shape...)
		h.d.Convolve(y, x, w, device.Tensor{}, c)
		h.equal(name+".y", y, g.channelsLast(name+".y"))
		h.d.ConvolveBackwardData(dx, dy, w, c, false)
		h.equal(name+".dx", dx, g.channelsLast(name+".dx"))
		h.d.ConvolveBackwardWeights(dw, device.Tensor{}, dy, x, c)
		h.equal(name+".dw", dw, g.channelsLast(name+".dw"))
	}

	x, dy := h.activation(g.channelsLast("bn_relu.x")), h.activation(g.channelsLast("bn_relu.dy"))
	n := x.Channels()
	ones := newArray(n)
	for i := range ones.data {
		ones.data[i] = 1
	}
	b := &device.BatchNorm{
		Weight: h.put(g.array("bn_relu.weight")), Bias: h.put(g.array("bn_relu.bias")),
		RunningMean: h.zeros(n), RunningVar: h.put(ones), SavedMean: h.garbage(1, n), SavedInvStd: h.garbage(1, n),
		WeightGrad: h.zeros(n), BiasGrad: h.zeros(n), Views: 1, Epsilon: 1e-5, RunningMomentum: 0.1, ReLU: true,
	}
	y := h.output(x.Shape...)
	h.d.BatchNorm(y, x, device.Tensor{}, b)
	h.equal("bn_relu.y", y, g.channelsLast("bn_relu.y"))
	h.equal("bn_relu.running_mean", b.RunningMean, g.array("bn_relu.running_mean"))
	h.equal("bn_relu.running_var", b.RunningVar, g.array("bn_relu.running_var"))
	h.d.BatchNormBackward(dy, dy, x, y, b)
	h.equal("bn_relu.dx", dy, g.channelsLast("bn_relu.dx"))
	h.equal("bn_relu.dweight", b.WeightGrad, g.array("bn_relu.dweight"))
	h.equal("bn_relu.dbias", b.BiasGrad, g.array("bn_relu.dbias"))

	x, dy = h.activation(g.channelsLast("maxpool.x")), h.activation(g.channelsLast("maxpool.dy"))
	y, dx := h.output(dy.Shape...), h.output(x.Shape...)
	pool := device.Convolution{Kernel: 3, Stride: 2, Padding: 1}
	h.d.MaxPool(y, x, pool)
	h.equal("maxpool.y", y, g.channelsLast("maxpool.y"))
	h.d.MaxPoolBackward(dx, dy, x, y, pool)
	h.equal("maxpool.dx", dx, g.channelsLast("maxpool.dx"))
}

func testGoldenLosses(h *harness) {
	g := h.golden("losses.safetensors")
	for _, name := range g.cases("loss") {
		q, k := h.activation(g.channelsLast(name+".q")), h.activation(g.channelsLast(name+".k"))
		coordQ, coordK, mask := g.array(name+".coord_q"), g.array(name+".coord_k"), g.array(name+".mask")
		images, rows, cols := q.Shape[0], q.Shape[1], q.Shape[2]
		pairs := rows * cols * rows * cols
		for i := range images {
			got := make([]bool, pairs)
			cells.Positive(got, crop(coordQ, i), crop(coordK, i), rows, cols, 0.7)
			for j, positive := range got {
				if positive != (mask.data[i*pairs+j] == 1) {
					h.Fatalf("%s: image %d: pair %d is positive: %v", name, i, j, positive)
				}
			}
		}
		m := device.Matching{CoordQ: h.put(coordQ), CoordK: h.put(coordK), Threshold: 0.7, Scale: 1 / float64(images)}
		for way, d := range h.lossDevices() {
			for _, loss := range []string{"pixpro", "pixcontrast"} {
				tape := nn.NewTape(d, nn.Train, 1)
				raw := tape.Variable(q).Retain()
				unitQ, unitK := nn.Normalize(tape, raw.Retain()), nn.Normalize(nn.NewTape(d, nn.Keys, 1), tape.Input(k).Retain())
				var losses device.Tensor
				if loss == "pixpro" {
					losses = nn.PixProLoss(tape, unitQ, unitK, m)
				} else {
					losses = nn.PixContrastLoss(tape, unitQ, unitK, m, 0.3)
				}
				sum := newArray(1)
				for _, l := range h.get(losses) {
					sum.data[0] += float64(l)
				}
				what := fmt.Sprintf("%s.%s.", name, loss)
				h.equal(what+"loss, "+way, h.put(sum), g.array(what+"loss"))
				tape.Backward()
				h.equal(what+"dq, "+way, raw.Grad(), g.channelsLast(what+"dq"))
			}
		}
	}
}

func testGoldenPropagation(h *harness) {
	g := h.golden("losses.safetensors")
	for _, name := range g.cases("ppm_gamma") {
		gamma, err := strconv.ParseFloat(strings.TrimPrefix(name, "ppm_gamma"), 64)
		if err != nil {
			h.Fatal(err)
		}
		var parameters []*nn.Parameter
		x := h.activation(g.channelsLast(name + ".x"))
		module := model.NewPropagation(nn.Builder{Device: h.d, Gradients: true, List: &parameters}, x.Channels(), 1, device.Propagation{Gamma: gamma})
		for _, p := range parameters {
			values := h.get(h.put(g.array(name + strings.TrimPrefix(p.Name, "value_transform"))))
			if err := p.Load(h.d, values); err != nil {
				h.Fatal(err)
			}
		}
		tape := nn.NewTape(h.d, nn.Train, 1)
		in := tape.Variable(x)
		out := module.Forward(tape, in.Retain())
		h.equal(name+".y", out.Value, g.channelsLast(name+".y"))
		out.AddGrad(h.activation(g.channelsLast(name + ".dy")))
		tape.Backward()
		h.equal(name+".dx", in.Grad(), g.channelsLast(name+".dx"))
		h.equal(name+".dweight", parameters[0].Grad, g.array(name+".dweight"))
		h.equal(name+".dbias", parameters[1].Grad, g.array(name+".dbias"))
	}
}

package devicetest

import (
	"math"
	"slices"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/train/device"
)

// array is a float64 tensor: what the references below compute with, as plainly
// as their formulas read.
type array struct {
	shape []int
	data  []float64
}

func newArray(shape ...int) array {
	return array{shape, make([]float64, device.Elements(shape))}
}

// at is the place of an element of an N x H x W x C array.
func (a array) at(n, h, w, c int) int {
	return ((n*a.shape[1]+h)*a.shape[2]+w)*a.shape[3] + c
}

func convolve(x, w, bias array, c device.Convolution) array {
	c = c.Explicit()
	y := newArray(x.shape[0], c.Output(x.shape[1]), c.Output(x.shape[2]), w.shape[0])
	for n := range y.shape[0] {
		for oh := range y.shape[1] {
			for ow := range y.shape[2] {
				for co := range y.shape[3] {
					var sum float64
					if bias.data != nil {
						sum = bias.data[co]
					}
					first := co / (w.shape[0] / c.Groups) * w.shape[3] // channel of the group
					each(c, x, oh, ow, func(kh, kw, h, wd int) {
						for ci := range w.shape[3] {
							sum += x.data[x.at(n, h, wd, first+ci)] * w.data[w.at(co, kh, kw, ci)]
						}
					})
					y.data[y.at(n, oh, ow, co)] = sum
				}
			}
		}
	}
	return y
}

func batchNorm(x, residual, weight, bias array, views int, relu bool, epsilon float64) array {
	y := newArray(x.shape...)
	channels := x.shape[3]
	perView := len(x.data) / views
	for v := range views {
		xs, ys := x.data[v*perView:(v+1)*perView], y.data[v*perView:(v+1)*perView]
		for c := range channels {
			mean, variance := moments(xs, c, channels)
			for i := c; i < len(xs); i += channels {
				value := weight.data[c]*(xs[i]-mean)/math.Sqrt(variance+epsilon) + bias.data[c]
				if residual.data != nil {
					value += residual.data[v*perView+i]
				}
				if relu {
					value = max(value, 0)
				}
				ys[i] = value
			}
		}
	}
	return y
}

// moments are the mean and the biased variance of every channels-th value from
// c on.
func moments(x []float64, c, channels int) (mean, variance float64) {
	n := float64(len(x) / channels)
	for i := c; i < len(x); i += channels {
		mean += x[i] / n
	}
	for i := c; i < len(x); i += channels {
		variance += (x[i] - mean) * (x[i] - mean) / n
	}
	return mean, variance
}

func maxPool(x array, c device.Convolution) array {
	y := newArray(x.shape[0], c.Output(x.shape[1]), c.Output(x.shape[2]), x.shape[3])
	for i := range y.data {
		y.data[i] = math.Inf(-1)
	}
	for n := range y.shape[0] {
		for oh := range y.shape[1] {
			for ow := range y.shape[2] {
				each(c, x, oh, ow, func(_, _, h, w int) {
					for ch := range x.shape[3] {
						at := y.at(n, oh, ow, ch)
						y.data[at] = max(y.data[at], x.data[x.at(n, h, w, ch)])
					}
				})
			}
		}
	}
	return y
}

func averagePool(x array, c device.Convolution) array {
	y := newArray(x.shape[0], c.Output(x.shape[1]), c.Output(x.shape[2]), x.shape[3])
	for n := range y.shape[0] {
		for oh := range y.shape[1] {
			for ow := range y.shape[2] {
				each(c, x, oh, ow, func(_, _, h, w int) {
					for ch := range x.shape[3] {
						y.data[y.at(n, oh, ow, ch)] += x.data[x.at(n, h, w, ch)] / float64(c.Kernel*c.Kernel)
					}
				})
			}
		}
	}
	return y
}

// instanceLoss is each image's loss; tau 0 means that of BYOL.
func instanceLoss(q, k array, m device.Matching, tau float64) array {
	images := q.shape[0]
	losses := newArray(images)
	for i := range images {
		own := cosine(q, k, i, 0, (i+m.KeyShift)%images, 0)
		if tau == 0 {
			losses.data[i] = -2 * m.Scale * own
			continue
		}
		var sum float64
		first := (i/m.KeyShift*m.KeyShift + m.KeyShift) % images // of the other view
		for j := first; j < first+m.KeyShift; j++ {
			sum += math.Exp(cosine(q, k, i, 0, j, 0) / tau)
		}
		losses.data[i] = m.Scale * (math.Log(sum) - own/tau)
	}
	return losses
}

func normalize(x array) array {
	y := newArray(x.shape...)
	c := x.shape[3]
	for r := 0; r < len(x.data); r += c {
		norm := max(length(x.data[r:r+c]), 1e-12)
		for i := r; i < r+c; i++ {
			y.data[i] = x.data[i] / norm
		}
	}
	return y
}

func length(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// cosine is the product of cell i of image n of a and cell j of image m of b.
func cosine(a, b array, n, i, m, j int) float64 {
	c, hw := a.shape[3], a.shape[1]*a.shape[2]
	var sum float64
	for k := range c {
		sum += a.data[(n*hw+i)*c+k] * b.data[(m*hw+j)*c+k]
	}
	return sum
}

func propagate(u, g array, p device.Propagation) array {
	y := newArray(u.shape...)
	c, hw := u.shape[3], u.shape[1]*u.shape[2]
	for n := range u.shape[0] {
		for i := range hw {
			for j := range hw {
				base := max(cosine(u, u, n, i, n, j), p.Clamp)
				if p.Gamma < 1 {
					base += 1e-6
				}
				s := math.Pow(base, p.Gamma)
				for k := range c {
					y.data[(n*hw+i)*c+k] += s * g.data[(n*hw+j)*c+k]
				}
			}
		}
	}
	return y
}

// pixelLoss is each image's loss; tau 0 means that of PixPro.
func pixelLoss(q, k, coordQ, coordK array, m device.Matching, tau float64) array {
	images, hw := q.shape[0], q.shape[1]*q.shape[2]
	losses := newArray(images)
	for n := range images {
		other := (n + m.KeyShift) % images
		mask := make([]bool, hw*hw)
		count := cells.Positive(mask, crop(coordQ, n), crop(coordK, other), q.shape[1], q.shape[2], m.Threshold)
		var sum, with float64
		for i := range hw {
			var inside, all float64
			for j := range hw {
				cos := cosine(q, k, n, i, other, j)
				e := math.Exp(cos / tau)
				all += e
				if mask[i*hw+j] {
					inside += e
					if tau == 0 {
						sum += cos
					}
				}
			}
			if tau > 0 && inside > 0 {
				sum -= math.Log(inside / all)
				with++
			}
		}
		if tau > 0 {
			losses.data[n] = m.Scale * sum / max(with, 1)
		} else {
			losses.data[n] = m.Scale * -2 * sum / (float64(count) + 1e-6)
		}
	}
	return losses
}

func crop(coords array, n int) (c [4]float32) {
	for i := range c {
		c[i] = float32(coords.data[4*n+i])
	}
	return c
}

// each visits the places of x in the window of output (oh, ow).
func each(c device.Convolution, x array, oh, ow int, visit func(kh, kw, h, w int)) {
	c = c.Explicit()
	for kh := range c.Kernel {
		for kw := range c.Kernel {
			h, w := oh*c.Stride-c.Padding+kh*c.Dilation, ow*c.Stride-c.Padding+kw*c.Dilation
			if h >= 0 && h < x.shape[1] && w >= 0 && w < x.shape[2] {
				visit(kh, kw, h, w)
			}
		}
	}
}

// difference step of the numeric derivatives below.
const step = 1e-5

// project is the sum of f's elements times dy.
func project(dy array, f func() array) float64 {
	var sum float64
	for i, v := range f().data {
		sum += v * dy.data[i]
	}
	return sum
}

// gradient is the gradient by x of the sum of f's elements times dy, by
// central differences. f reads x anew at every call.
func gradient(x array, dy array, f func() array) array {
	g := newArray(x.shape...)
	for i, v := range x.data {
		x.data[i] = v + step
		up := project(dy, f)
		x.data[i] = v - step
		g.data[i] = (up - project(dy, f)) / (2 * step)
		x.data[i] = v
	}
	return g
}

// slope is the derivative of the same sum when x moves along direction.
func slope(x, direction, dy array, f func() array) float64 {
	at := slices.Clone(x.data)
	move := func(by float64) float64 {
		for i := range at {
			x.data[i] = at[i] + by*direction.data[i]
		}
		return project(dy, f)
	}
	s := (move(step) - move(-step)) / (2 * step)
	copy(x.data, at)
	return s
}

func multiply(a, b array, p device.Product) array {
	c := newArray(p.Batch, p.M*p.N)
	for n := range p.Batch {
		for i := range p.M {
			for j := range p.N {
				var sum float64
				for k := range p.K {
					left, right := i*p.K+k, k*p.N+j
					if p.TransposeA {
						left = k*p.M + i
					}
					if p.TransposeB {
						right = j*p.K + k
					}
					sum += a.data[n*p.M*p.K+left] * b.data[n*p.K*p.N+right]
				}
				c.data[(n*p.M+i)*p.N+j] = sum
			}
		}
	}
	return c
}

func upsample(x array, factor int) array {
	y := newArray(x.shape[0], factor*x.shape[1], factor*x.shape[2], x.shape[3])
	for n := range y.shape[0] {
		for h := range y.shape[1] {
			for w := range y.shape[2] {
				for c := range y.shape[3] {
					y.data[y.at(n, h, w, c)] = x.data[x.at(n, h/factor, w/factor, c)]
				}
			}
		}
	}
	return y
}

func softmax(m masked, tau float64) array {
	y, sums := newArray(m.x.shape...), logSumExp(m, tau)
	for i, v := range m.x.data {
		if m.passes(i) {
			y.data[i] = math.Exp(v/tau - sums.data[i/m.x.shape[1]])
		}
	}
	return y
}

func logSumExp(m masked, tau float64) array {
	y := newArray(m.x.shape[0])
	for i, v := range m.x.data {
		if m.passes(i) {
			y.data[i/m.x.shape[1]] += math.Exp(v / tau)
		}
	}
	for r, sum := range y.data {
		y.data[r] = math.Log(sum)
	}
	return y
}

func mean(m masked) array {
	y, counts := newArray(m.x.shape[0]), newArray(m.x.shape[0])
	for i, v := range m.x.data {
		if m.passes(i) {
			y.data[i/m.x.shape[1]] += v
			counts.data[i/m.x.shape[1]]++
		}
	}
	for r, n := range counts.data {
		y.data[r] /= max(n, 1)
	}
	return y
}

package cpu

// The loops over channels in which most time outside of matrix products goes,
// in portable Go. Arguments of one call are equally long. The vector versions,
// in rows_simd.go, do the same operations in the same order on every channel,
// unfused, and so give the same bits.

// addToGeneric computes dst += src.
func addToGeneric(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}

// sumAndSquaresGeneric adds the sums and sums of squares of x's columns; x holds rows
// of len(sums).
func sumAndSquaresGeneric(sums, squares []float64, x []float32) {
	c := len(sums)
	squares = squares[:c]
	for ; len(x) >= c; x = x[c:] {
		for i, v := range x[:c] {
			f := float64(v)
			sums[i] += f
			squares[i] += float64(f * f)
		}
	}
}

// scaleShiftRowGeneric computes y = x*scale + shift (+ residual), then ReLU if asked for.
func scaleShiftRowGeneric(y, x, residual, scale, shift []float32, relu bool) {
	x, scale, shift = x[:len(y)], scale[:len(y)], shift[:len(y)]
	if residual != nil {
		residual = residual[:len(y)]
		for i := range y {
			v := float32(x[i]*scale[i]) + shift[i] + residual[i]
			if relu && v < 0 {
				v = 0
			}
			y[i] = v
		}
		return
	}
	for i := range y {
		v := float32(x[i]*scale[i]) + shift[i]
		if relu && v < 0 {
			v = 0
		}
		y[i] = v
	}
}

// maskRowGeneric sets grad to 0 where y, the output of ReLU, is.
func maskRowGeneric(grad, y []float32) {
	y = y[:len(grad)]
	for i := range grad {
		if y[i] <= 0 {
			grad[i] = 0
		}
	}
}

// sumGradRowGeneric adds grad to sums, and grad (x - mean) to products.
func sumGradRowGeneric(sums, products []float64, grad, x, mean []float32) {
	products, x, mean, sums = products[:len(grad)], x[:len(grad)], mean[:len(grad)], sums[:len(grad)]
	for i, g := range grad {
		sums[i] += float64(g)
		products[i] += float64(float64(g) * float64(x[i]-mean[i]))
	}
}

// combineRowGeneric computes dx = k0 dy + k1 (x - mean) + k2.
func combineRowGeneric(dx, dy, x, mean, k0, k1, k2 []float32) {
	dy, x, mean, k0, k1, k2 = dy[:len(dx)], x[:len(dx)], mean[:len(dx)], k0[:len(dx)], k1[:len(dx)], k2[:len(dx)]
	for i := range dx {
		dx[i] = float32(k0[i]*dy[i]) + float32(k1[i]*(x[i]-mean[i])) + k2[i]
	}
}

// maxRowGeneric raises y to x where that is larger, or not a number.
func maxRowGeneric(y, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		if v > y[i] || v != v {
			y[i] = v
		}
	}
}

// maxBackRowGeneric adds to dx what is left of the gradients of maxima where x is the
// maximum, and leaves nothing of them there.
func maxBackRowGeneric(dx, left, x, top []float32) {
	left, x, top = left[:len(dx)], x[:len(dx)], top[:len(dx)]
	for i := range dx {
		if x[i] == top[i] {
			dx[i] += left[i]
			left[i] = 0
		}
	}
}

// sumLanes is how many sums squareLengths keeps, of every so manyth parameter.
const sumLanes = 8

// squareLengthsGeneric adds the squares of parameters, and of their gradients with decay.
func squareLengthsGeneric(sums *[2][sumLanes]float64, p, g []float32, decay float64) {
	g = g[:len(p)]
	for i, w := range p {
		v := float64(g[i]) + float64(decay*float64(w))
		sums[0][i%sumLanes] += float64(float64(w) * float64(w))
		sums[1][i%sumLanes] += float64(v * v)
	}
}

// updateRowGeneric is a step of SGD with momentum.
func updateRowGeneric(p, buffer, g []float32, momentum, gradScale, weightScale, rate float32) {
	buffer, g = buffer[:len(p)], g[:len(p)]
	for i := range p {
		v := float32(momentum*buffer[i]) + float32(gradScale*g[i]) + float32(weightScale*p[i])
		buffer[i] = v
		p[i] -= float32(rate * v)
	}
}

// averageRowGeneric computes key = keep key + take query.
func averageRowGeneric(key, query []float32, keep, take float32) {
	query = query[:len(key)]
	for i := range key {
		key[i] = float32(keep*key[i]) + float32(take*query[i])
	}
}

//go:build !(goexperiment.simd && amd64)

package cpu

func clearUpperBits() {}

func addTo(dst, src []float32) { addToGeneric(dst, src) }

func sumAndSquares(sums, squares []float64, x []float32) { sumAndSquaresGeneric(sums, squares, x) }

func scaleShiftRow(y, x, residual, scale, shift []float32, relu bool) {
	scaleShiftRowGeneric(y, x, residual, scale, shift, relu)
}

func maskRow(grad, y []float32) { maskRowGeneric(grad, y) }

func sumGradRow(sums, products []float64, grad, x, mean []float32) {
	sumGradRowGeneric(sums, products, grad, x, mean)
}

func combineRow(dx, dy, x, mean, k0, k1, k2 []float32) {
	combineRowGeneric(dx, dy, x, mean, k0, k1, k2)
}

func maxRow(y, x []float32) { maxRowGeneric(y, x) }

func maxBackRow(dx, left, x, top []float32) { maxBackRowGeneric(dx, left, x, top) }

func squareLengths(sums *[2][sumLanes]float64, p, g []float32, decay float64) {
	squareLengthsGeneric(sums, p, g, decay)
}

func updateRow(p, buffer, g []float32, momentum, gradScale, weightScale, rate float32) {
	updateRowGeneric(p, buffer, g, momentum, gradScale, weightScale, rate)
}

func averageRow(key, query []float32, keep, take float32) { averageRowGeneric(key, query, keep, take) }

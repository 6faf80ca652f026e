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

//go:build !amd64

package cpu

func transformInput(dst []float32, stride int, x *[elements]*float32, n int) {
	transformInputGeneric(dst, stride, x, 0, n)
}

func transformOutput(y *[4]*float32, m []float32, stride, n int, accumulate bool) {
	transformOutputGeneric(y, m, stride, 0, n, accumulate)
}

func transformGradient(dst []float32, stride int, dy *[4]*float32, n int) {
	transformGradientGeneric(dst, stride, dy, 0, n)
}

func transformWeights(dst []float32, stride int, w []float32, n int, turned bool) {
	transformWeightsGeneric(dst, stride, w, 0, n, turned)
}

func addWeightGradient(dw, u []float32, stride, n int) {
	addWeightGradientGeneric(dw, u, stride, 0, n)
}

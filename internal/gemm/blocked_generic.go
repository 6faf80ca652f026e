//go:build !(goexperiment.simd && amd64)

package gemm

// blocked is never chosen in builds without vector instructions.
var blocked mulFunc

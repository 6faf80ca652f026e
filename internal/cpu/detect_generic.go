//go:build !(goexperiment.simd && amd64)

package cpu

func detect() Level { return Generic }

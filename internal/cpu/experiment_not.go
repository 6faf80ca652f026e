//go:build !(goexperiment.simd && amd64)

package cpu

// Experiment says that Go's vector code is in this build.
const Experiment = false

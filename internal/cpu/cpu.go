// Package cpu says which vector instructions may be used.
//
// Code has a portable version that always works and, for builds with
// GOEXPERIMENT=simd on amd64, versions for AVX2 and AVX-512. The environment
// variable PIXPRO_CPU (generic, avx2 or avx512) lowers the level below what
// the processor has, so that every version can be tested on one machine.
package cpu

import (
	"fmt"
	"os"
)

// Level is a set of vector instructions; a higher one includes the lower.
type Level int

// The levels. Generic is portable Go.
const (
	Generic Level = iota
	AVX2          // AVX2 and FMA
	AVX512        // AVX-512 F, BW, CD, DQ and VL
)

var names = [...]string{"generic", "avx2", "avx512"}

func (l Level) String() string { return names[l] }

// Available is the highest level of this build on this processor.
var Available = detect()

var current, environmentError = fromEnvironment(os.Getenv("PIXPRO_CPU"))

// Current is the level in use: Available, or what PIXPRO_CPU lowers it to.
func Current() Level { return current }

// EnvironmentError is not nil if PIXPRO_CPU holds something that cannot be
// obeyed: a program must not go on with what nobody asked for.
func EnvironmentError() error { return environmentError }

func fromEnvironment(value string) (Level, error) {
	if value == "" {
		return Available, nil
	}
	for i, name := range names {
		if name != value {
			continue
		}
		if Level(i) > Available {
			return Available, fmt.Errorf("PIXPRO_CPU=%s: this build on this processor has %s at most", value, Available)
		}
		return Level(i), nil
	}
	return Available, fmt.Errorf("PIXPRO_CPU=%q: use generic, avx2 or avx512", value)
}

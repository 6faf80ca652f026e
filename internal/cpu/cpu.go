// Package cpu says which vector instructions may be used.
//
// Code has a portable version that always works and faster ones: assembly, for what the
// processor has, and Go's vector code, in builds with GOEXPERIMENT=simd on amd64. The
// environment variable PIXPRO_CPU (generic, avx2, avx512 or avx512bf16) lowers the level
// below what the processor has, so that every version can be tested on one machine.
package cpu

import (
	"fmt"
	"os"
)

// Level is a set of vector instructions; a higher one includes the lower.
type Level int

// The levels. Generic is portable Go.
const (
	Generic    Level = iota
	AVX2             // AVX2 and FMA
	AVX512           // AVX-512 F, BW, CD, DQ and VL
	AVX512BF16       // AVX512_BF16: products of bfloat16
)

var names = [...]string{"generic", "avx2", "avx512", "avx512bf16"}

func (l Level) String() string { return names[l] }

// Processor is the highest level of the processor.
var Processor = detect()

// Available is the highest level of Go's vector code in this build on this processor.
var Available = ofBuild(Processor)

func ofBuild(l Level) Level {
	if !Experiment {
		return Generic
	}
	return min(l, AVX512)
}

var assembly, environmentError = fromEnvironment(os.Getenv("PIXPRO_CPU"))

// Assembly is the level that assembly may use: Processor, or what PIXPRO_CPU lowers it
// to.
func Assembly() Level { return assembly }

// Current is the level that Go's vector code may use: Available, or what PIXPRO_CPU
// lowers it to.
func Current() Level { return min(assembly, Available) }

// EnvironmentError is not nil if PIXPRO_CPU holds something that cannot be
// obeyed: a program must not go on with what nobody asked for.
func EnvironmentError() error { return environmentError }

func fromEnvironment(value string) (Level, error) {
	if value == "" {
		return Processor, nil
	}
	for i, name := range names {
		if name != value {
			continue
		}
		if Level(i) > Processor {
			return Processor, fmt.Errorf("PIXPRO_CPU=%s: this processor has %s at most", value, Processor)
		}
		return Level(i), nil
	}
	return Processor, fmt.Errorf("PIXPRO_CPU=%q: use generic, avx2, avx512 or avx512bf16", value)
}

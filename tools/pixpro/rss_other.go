//go:build !linux && !darwin

package main

import "runtime"

// peakRSS is the memory that the Go runtime has from the system, in bytes,
// which is all that is known here.
func peakRSS() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}

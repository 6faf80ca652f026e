//go:build !linux

package main

import "runtime"

// peakRSS is the memory that Go has asked the system for, in bytes: what can be
// known everywhere.
func peakRSS() (int64, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys), nil
}

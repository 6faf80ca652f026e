//go:build linux || darwin

package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// peakRSS is the most memory that the process has had resident, in bytes.
func peakRSS() int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	if runtime.GOOS == "linux" {
		return int64(usage.Maxrss) << 10 // Linux counts in KiB, Darwin in bytes
	}
	return int64(usage.Maxrss)
}

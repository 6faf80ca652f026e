package cpu

import (
	"os"
	"runtime"
)

var cores = runtime.GOMAXPROCS(0)

// Cores is how many threads the program should compute with at once: Go's
// GOMAXPROCS when the program started, which is the number of processors or
// the container's share of them.
func Cores() int { return cores }

// sparePs are enough that one is idle while all cores are in libraries.
const sparePs = 2

// KeepSpare lets Go have more running goroutines than Cores. While a goroutine
// is in a shared library for longer than some microseconds and no slot of Go's
// scheduler is idle, the scheduler takes its slot away and wakes a thread that
// looks for work in vain, on a core that the library needs; where one is idle
// it does not. What computes must then count on Cores. A program calls it at
// its start. If the environment sets GOMAXPROCS that stays.
func KeepSpare() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(cores + sparePs)
	}
}

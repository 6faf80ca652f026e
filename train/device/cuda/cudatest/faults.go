//go:build cuda

// Package cudatest lets calls to the software device fail.
package cudatest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ebitengine/purego"
)

// Faults controls the software device.
type Faults struct {
	failAt    func(n int64)
	failCall  func(name string, n int64)
	failed    func() string
	calls     func() string
	live      func() int64
	setMemory func(bytes uint64)
}

// software opens the driver and says whether it is the software device.
func software(t testing.TB) (driver uintptr, yes bool) {
	t.Helper()
	lib, err := purego.Dlopen("libcuda.so.1", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = purego.Dlsym(lib, "softcudaFailAt")
	return lib, err == nil
}

// Slow says whether tests should be small: on the software device.
func Slow(t testing.TB) bool {
	_, yes := software(t)
	return yes || testing.Short()
}

// Open finds the software device; with a card's driver the test is skipped.
func Open(t testing.TB) *Faults {
	t.Helper()
	lib, yes := software(t)
	if !yes {
		t.Skip("this driver cannot be made to fail: it is not the software device")
	}
	f := &Faults{}
	purego.RegisterLibFunc(&f.failAt, lib, "softcudaFailAt")
	purego.RegisterLibFunc(&f.failCall, lib, "softcudaFailCall")
	purego.RegisterLibFunc(&f.failed, lib, "softcudaFailed")
	purego.RegisterLibFunc(&f.calls, lib, "softcudaCalls")
	purego.RegisterLibFunc(&f.live, lib, "softcudaLive")
	purego.RegisterLibFunc(&f.setMemory, lib, "softcudaSetMemory")
	t.Cleanup(func() { f.failAt(0) })
	return f
}

// FailAt lets the n-th call from now fail; 0 lets none.
func (f *Faults) FailAt(n int) { f.failAt(int64(n)) }

// FailCall lets the n-th call from now of a function fail.
func (f *Faults) FailCall(name string, n int) { f.failCall(name, int64(n)) }

// Failed is the function whose call failed, "" if none did since the last
// FailAt or FailCall.
func (f *Faults) Failed() string { return f.failed() }

// Calls is how often each function was called since the last FailAt or FailCall.
func (f *Faults) Calls() map[string]int {
	calls := map[string]int{}
	for line := range strings.Lines(f.calls()) {
		var name string
		var n int
		if _, err := fmt.Sscan(line, &name, &n); err == nil {
			calls[name] = n
		}
	}
	return calls
}

// Live is how many objects there are on the device: contexts, streams, memory.
func (f *Faults) Live() int { return int(f.live()) }

// Memory is the size that the software device's cards have.
const Memory = 4 << 30

// SetMemory sets the card's size.
func (f *Faults) SetMemory(bytes int64) { f.setMemory(uint64(bytes)) }

package device

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Precision is how a device computes matrix products and keeps activations.
// Parameters, statistics and losses are float32 or better in each.
type Precision string

// The precisions.
const (
	FP32 Precision = "fp32" // float32
	TF32 Precision = "tf32" // float32, whose products drop 13 bits of the factors
	BF16 Precision = "bf16" // bfloat16 factors and activations, float32 sums
)

// Precisions lists all precisions.
func Precisions() []Precision { return []Precision{FP32, TF32, BF16} }

// Config says how a device is opened.
type Config struct {
	Ordinal   int       // of several devices of a kind
	Precision Precision // "" is FP32
	Threads   int       // of the processor that compute; 0 is one a core
}

// Driver opens devices of a kind.
type Driver struct {
	// Precisions that devices of the kind may have. What one that was found
	// lacks, Open refuses.
	Precisions []Precision
	// Several says that a name may have a number, such as cuda:1.
	Several bool
	Open    func(Config) (Device, error)
}

var (
	driversMutex sync.Mutex
	drivers      = map[string]Driver{}
)

// Register makes devices of a kind known under a name, such as cpu. Packages
// of devices do so when they are imported. A name registered twice panics.
func Register(name string, d Driver) {
	driversMutex.Lock()
	defer driversMutex.Unlock()
	if _, twice := drivers[name]; twice || name == "" || strings.Contains(name, ":") {
		panic(fmt.Sprintf("device: %q is registered twice, or is no name", name))
	}
	drivers[name] = d
}

// Names lists the kinds of devices that are registered.
func Names() []string {
	driversMutex.Lock()
	defer driversMutex.Unlock()
	return slices.Sorted(maps.Keys(drivers))
}

// Lookup finds the driver of a device's name, such as cpu or cuda:1, and the
// number in it.
func Lookup(name string) (d Driver, ordinal int, err error) {
	kind, number, numbered := strings.Cut(name, ":")
	driversMutex.Lock()
	d, ok := drivers[kind]
	driversMutex.Unlock()
	if ok && numbered {
		n, err := strconv.ParseUint(number, 10, 8)
		ordinal, ok = int(n), err == nil && d.Several
	}
	if !ok {
		var names []string
		for _, n := range Names() {
			names = append(names, n)
			driversMutex.Lock()
			if drivers[n].Several {
				names = append(names, n+":N")
			}
			driversMutex.Unlock()
		}
		return Driver{}, 0, fmt.Errorf("device %q: use %s", name, strings.Join(names, ", "))
	}
	return d, ordinal, nil
}

// Open opens the device of a name. A precision that its kind does not have is
// an error.
func Open(name string, c Config) (Device, error) {
	d, ordinal, err := Lookup(name)
	if err != nil {
		return nil, err
	}
	c.Ordinal = ordinal
	if c.Precision == "" {
		c.Precision = FP32
	}
	if !slices.Contains(d.Precisions, c.Precision) {
		return nil, fmt.Errorf("device %s has no precision %q: use %v", name, c.Precision, d.Precisions)
	}
	return d.Open(c)
}

package options

import (
	"maps"
	"slices"
)

// presets are the paper's runs on ImageNet: ResNet-50 at 224 pixels, 1024
// pairs a step, on top of Default.
var presets = map[string]func(*Options){
	"pixpro-100ep":      func(o *Options) { o.BatchSize, o.Epochs = 1024, 100 },
	"pixpro-400ep":      func(o *Options) { o.BatchSize, o.Epochs = 1024, 400 },
	"pixcontrast-100ep": func(o *Options) { o.BatchSize, o.Epochs, o.Method = 1024, 100, "pixcontrast" },
}

// Presets lists the names that Preset knows.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is Default with the settings of one of the paper's runs. The paper
// spreads a step's 1024 pairs over many cards; on one machine a smaller batch
// with Accumulate comes near it.
func Preset(name string) (Options, error) {
	set, ok := presets[name]
	if !ok {
		return Options{}, &Error{Name: "preset", Value: name, Want: "use " + alternatives(Presets())}
	}
	o := Default()
	set(&o)
	return o, nil
}

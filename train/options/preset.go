package options

import (
	"maps"
	"slices"

	"github.com/seed-436d2970/pixpro/train/optim"
)

// presets are the papers' runs on ImageNet, with ResNet-50 at 224 pixels, on top
// of Default: PixPro's and PixContrast's of 1024 pairs a step, DenseCL's of 256.
var presets = map[string]func(*Options){
	"pixpro-100ep": func(o *Options) { o.BatchSize, o.Epochs = 1024, 100 },
	"pixpro-400ep": func(o *Options) { o.BatchSize, o.Epochs = 1024, 400 },
	"densecl-200ep": func(o *Options) {
		o.Method, o.BatchSize, o.Epochs, o.Recipe = "densecl", 256, 200, "mocov2"
		o.HeadHidden, o.HeadDim, o.PixProMomentum = 2048, 128, 0.999
		o.Optimizer, o.BaseLR, o.WeightDecay, o.WarmupEpochs = optim.SGD, 0.03, 1e-4, 0
	},
	"pixcontrast-100ep": func(o *Options) { o.BatchSize, o.Epochs, o.Method = 1024, 100, "pixcontrast" },
}

// Presets lists the names that Preset knows.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is Default with the settings of one of the papers' runs. They
// spread a step's 1024 pairs over many cards; on one machine a smaller batch
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

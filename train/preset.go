package train

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/train/model"
)

// presets are the paper's runs on ImageNet: ResNet-50 at 224 pixels, 1024
// pairs a step, on top of Default.
var presets = map[string]func(*Config){
	"pixpro-100ep":      func(c *Config) { c.BatchSize, c.Epochs = 1024, 100 },
	"pixpro-400ep":      func(c *Config) { c.BatchSize, c.Epochs = 1024, 400 },
	"pixcontrast-100ep": func(c *Config) { c.BatchSize, c.Epochs, c.Method = 1024, 100, model.PixContrast },
}

// Presets lists the names that Preset knows.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is Default with the settings of one of the paper's runs. The paper
// spreads a step's 1024 pairs over many cards; on one machine a smaller batch
// with Accumulate comes near it.
func Preset(name string) (Config, error) {
	set, ok := presets[name]
	if !ok {
		return Config{}, fmt.Errorf("train: unknown preset %q: use one of %s", name, strings.Join(Presets(), ", "))
	}
	c := Default()
	set(&c)
	return c, nil
}

package main

import (
	"errors"

	"github.com/rs/zerolog/log"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
)

// viewFlags are the flags of commands that make view pairs.
type viewFlags struct {
	shards, recipe string
	crop           float64
	size, workers  int
	seed           uint64
}

func (v *viewFlags) add(f *pflag.FlagSet) {
	f.StringVar(&v.shards, "shards", "", "folder of shards")
	f.StringVar(&v.recipe, "recipe", "byol", "augmentation: byol, simclr, mocov2, instdisc, randaug or none")
	f.Float64Var(&v.crop, "crop", 0.08, "least part of the image that a crop covers")
	f.IntVar(&v.size, "size", 224, "side of a view in pixels")
	f.Uint64Var(&v.seed, "seed", 0, "seed of the order and the augmentation")
	f.IntVar(&v.workers, "workers", 0, "goroutines that decode and augment (default: one a core)")
}

// lookupRecipe is the named recipe with crops of at least the given part.
func lookupRecipe(name string, crop float64) (augment.Recipe, error) {
	r, err := augment.LookupRecipe(name)
	if err != nil {
		return r, usageError{err}
	}
	r.CropScale.Min = crop
	if err := r.Validate(); err != nil {
		return r, usageError{err}
	}
	return r, nil
}

// open opens the shards and completes a pipeline's configuration.
func (v *viewFlags) open(cfg pipeline.Config) (pipeline.Config, error) {
	var err error
	if cfg.Recipe, err = lookupRecipe(v.recipe, v.crop); err != nil {
		return cfg, err
	}
	if cfg.Dataset, err = shards.Open(v.shards); err != nil {
		return cfg, err
	}
	cfg.Size, cfg.Seed, cfg.Workers = v.size, v.seed, v.workers
	cfg.OnEvent = logEvent
	if err := cfg.Validate(); err != nil {
		return cfg, usageError{errors.Join(err, cfg.Dataset.Close())}
	}
	return cfg, nil
}

// logEvent logs what happens in a pipeline.
func logEvent(e pipeline.Event) {
	if bad, ok := e.(pipeline.BadSample); ok {
		log.Warn().Int64("epoch", bad.Epoch).Int64("index", bad.Index).Str("key", bad.Key).Err(bad.Err).Msg("image left out")
	}
}

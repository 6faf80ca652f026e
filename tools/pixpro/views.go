package main

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog/log"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/options"
)

// What help says of options that training has too.
var recipeUsage, cropUsage = trainingHelp("recipe"), trainingHelp("crop")

// trainingHelp is the help of an option in the table of options.
func trainingHelp(name string) string {
	o := options.Default()
	r, _ := o.Row(name)
	return r.Help
}

// viewFlags are the flags of commands that make view pairs.
type viewFlags struct {
	shards, recipe string
	crop           float64
	size, workers  int
	seed           uint64
}

func (v *viewFlags) add(f *pflag.FlagSet) {
	f.StringVar(&v.shards, "shards", "", "folder of shards")
	f.StringVar(&v.recipe, "recipe", "byol", recipeUsage)
	f.Float64Var(&v.crop, "crop", 0, cropUsage)
	f.IntVar(&v.size, "size", 224, "side of a view in pixels")
	f.Uint64Var(&v.seed, "seed", 0, "seed of the order and the augmentation")
	f.IntVar(&v.workers, "workers", 0, "goroutines that decode and augment (default: one a core)")
}

// loaderFlags are the flags of commands that stream view pairs.
type loaderFlags struct {
	batch          int
	shuffle, dtype string
	scaledDecode   bool
	maxBad         float64
	limits         decode.Limits
}

func (l *loaderFlags) add(f *pflag.FlagSet) {
	f.IntVar(&l.batch, "batch", 64, "pairs in a record batch")
	f.StringVar(&l.shuffle, "shuffle", "full", "order: full, none, or window:N for slow disks (shards and blocks in random order, mixed in windows of N images)")
	f.StringVar(&l.dtype, "dtype", "uint8", "of the views: uint8 (0-255), or float32 (normalised)")
	f.BoolVar(&l.scaledDecode, "scaled-decode", false, "decode JPEGs smaller where crops allow it: faster for big photographs, not exact; needs libjpeg-turbo")
	f.Float64Var(&l.maxBad, "max-bad", 0.01, "part of an epoch's images that may be unreadable; above 0, 8 images always may, but not all")
	limitFlags(f, &l.limits)
}

// apply puts the flags into a pipeline's configuration.
func (l *loaderFlags) apply(cfg *pipeline.Config) {
	cfg.BatchSize, cfg.Shuffle, cfg.DType, cfg.MaxBad = l.batch, pipeline.Shuffle(l.shuffle), pipeline.DType(l.dtype), l.maxBad
	cfg.ScaledDecode, cfg.Limits = l.scaledDecode, l.limits
	if l.maxBad == 0 {
		cfg.MaxBad = -1 // 0 stands for the default there
	}
}

// limitFlags adds the flags of commands that decode images.
func limitFlags(f *pflag.FlagSet, l *decode.Limits) {
	f.Int64Var(&l.MaxPixels, "max-pixels", decode.DefaultMaxPixels, trainingHelp("max-pixels"))
	f.DurationVar(&l.MaxTime, "max-decode-time", decode.DefaultMaxTime, trainingHelp("max-decode-time"))
}

// lookupRecipe is the recipe of a name, or of a JSON file; crops are of at
// least the given part, if that is not 0.
func lookupRecipe(name string, crop float64) (augment.Recipe, error) {
	r, err := augment.ReadRecipe(name)
	if err != nil {
		return r, usageError{fmt.Errorf("--recipe: %w", err)}
	}
	if r, err = r.WithCropsFrom(crop); err != nil {
		return r, usageError{err}
	}
	return r, nil
}

// open opens the shards and completes a pipeline's configuration.
func (v *viewFlags) open(cfg pipeline.Config) (pipeline.Config, *shards.Dataset, error) {
	var err error
	if cfg.Recipe, err = lookupRecipe(v.recipe, v.crop); err != nil {
		return cfg, nil, err
	}
	dataset, err := shards.Open(v.shards)
	if err != nil {
		return cfg, nil, err
	}
	cfg.Dataset = dataset
	cfg.Size, cfg.Seed, cfg.Workers = v.size, v.seed, v.workers
	cfg.Listener = logEvent
	if err := cfg.Validate(); err != nil {
		return cfg, nil, usageError{errors.Join(err, dataset.Close())}
	}
	return cfg, dataset, nil
}

// logEvent logs what happens in a pipeline.
func logEvent(e pipeline.Event) {
	switch e := e.(type) {
	case pipeline.BadSample:
		log.Warn().Int64("epoch", e.Epoch).Int64("index", e.Index).Str("key", e.Key).Err(e.Err).Msg("image left out")
	case pipeline.EpochEnd:
		log.Debug().Int64("epoch", e.Epoch).Int64("bad", e.Bad).Float64("pairs_per_second", e.Stats.PairsPerSecond()).
			Str("bottleneck", string(e.Stats.Bottleneck())).Msg("epoch of the pipeline ended")
	case lock.Waiting:
		log.Info().Msg(e.String())
	case lock.Unlocked:
		log.Warn().Msg(e.String())
	}
}

package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// MaxSize is the largest side of a view in pixels.
const MaxSize = 8192

const (
	defaultBatches = 4
	defaultMaxBad  = 0.01
	// minBad samples of an epoch may be bad whatever MaxBad is, so that a few
	// do not stop a run on a small dataset.
	minBad = 8
	// MaxSize and maxBatchSize keep a batch's memory countable in 63 bits.
	maxBatchSize = 1 << 20
	// maxBatchPixels, of one view of each pair, makes slabs of 6 GiB at most.
	maxBatchPixels = 1 << 30
)

// Position is a place in the stream of one rank. Its zero value is the
// beginning.
type Position struct {
	Epoch  int64 `json:"epoch"`
	Offset int64 `json:"offset"` // samples of this rank's part of the epoch
	// Bad are those of them that were bad, for Config.MaxBad to go on with.
	Bad int64 `json:"bad,omitempty"`
}

// Config says what Open reads and how. Dataset, Recipe, Size and BatchSize are
// needed; the zero values of the others are usable.
type Config struct {
	Dataset   Dataset
	Recipe    augment.Recipe
	Size      int // side of a view in pixels
	BatchSize int // pairs a record batch

	DType DType // of the views; "": Uint8
	// ScaledDecode decodes JPEGs at a half, a quarter or an eighth of their size
	// where both crops still have at least the size of the views, if libjpeg-turbo
	// is there. It saves time with big photographs; the views are not, to the
	// byte, those that their parameters make from the whole image.
	ScaledDecode bool

	Seed    uint64
	Shuffle Shuffle // "": full
	// Rank and World split every epoch into World parts; this stream has samples
	// Rank, Rank+World, Rank+2*World, … of the order. World 0 is 1. All parts
	// have the same length: what does not divide is left out, in every epoch
	// other samples, and so is an epoch's last batch where it is not full.
	Rank, World int
	// KeepLast leaves nothing out: the last batch may be short, and the first
	// parts have a sample more than the others where the epoch does not divide.
	KeepLast bool

	Start  Position // where the stream begins
	Epochs int      // the stream ends before the epoch of this number; 0: never
	Limit  int64    // the stream ends after this many pairs; 0: never

	// MaxBad is the fraction of an epoch's samples that may be unreadable; such
	// samples are left out of their batches. 0: 0.01; below 0: none. Above 0, 8
	// samples always may be, but never all of an epoch. In an epoch that Start cuts,
	// Start.Bad count too.
	MaxBad float64

	// Limits are those of images; one beyond them is bad.
	Limits decode.Limits

	Workers int // goroutines that decode and augment; 0: one a core
	// Batches is the most batches in memory, those that the consumer holds
	// included: it must release one to get another. 0: 4.
	Batches int

	// Listener is told by Next of each BadSample and EpochEnd, in an order that
	// does not depend on Workers.
	Listener Listener
	// Allocator is where the memory of records comes from. nil: Go's heap.
	Allocator memory.Allocator
}

// Validate says which field cannot be used.
func (c *Config) Validate() error {
	switch {
	case c.Dataset == nil:
		return errors.New("pipeline: Dataset is missing")
	case c.Size < 1 || c.Size > MaxSize:
		return fmt.Errorf("pipeline: Size is %d, must be from 1 to %d", c.Size, MaxSize)
	case c.BatchSize < 1 || c.BatchSize > maxBatchSize:
		return fmt.Errorf("pipeline: BatchSize is %d, must be from 1 to %d", c.BatchSize, maxBatchSize)
	case int64(c.BatchSize)*int64(c.Size)*int64(c.Size) > maxBatchPixels:
		return fmt.Errorf("pipeline: a batch of %d pairs of %d x %d pixels is too large, must be %d pixels at most", c.BatchSize, c.Size, c.Size, int64(maxBatchPixels))
	case c.DType != "" && c.DType != Uint8 && c.DType != Float32:
		return fmt.Errorf("pipeline: DType is %q, must be %q or %q", c.DType, Uint8, Float32)
	case c.World < 0 || c.Rank < 0 || c.Rank >= max(c.World, 1):
		return fmt.Errorf("pipeline: Rank is %d of World %d, must be from 0 to World-1", c.Rank, c.World)
	case c.Epochs < 0:
		return fmt.Errorf("pipeline: Epochs is %d, must not be negative", c.Epochs)
	case c.Limit < 0:
		return fmt.Errorf("pipeline: Limit is %d, must not be negative", c.Limit)
	case c.MaxBad != c.MaxBad || c.MaxBad > 1:
		return fmt.Errorf("pipeline: MaxBad is %v, must be a fraction of 1", c.MaxBad)
	case c.Limits.Validate() != nil:
		return fmt.Errorf("pipeline: Limits: %w", c.Limits.Validate())
	case c.Workers < 0:
		return fmt.Errorf("pipeline: Workers is %d, must not be negative", c.Workers)
	case c.Batches < 0:
		return fmt.Errorf("pipeline: Batches is %d, must not be negative", c.Batches)
	}
	if _, err := c.Shuffle.window(); err != nil {
		return err
	}
	if err := c.Recipe.Validate(); err != nil {
		return fmt.Errorf("pipeline: Recipe: %w", err)
	}
	part := partLength(c)
	switch {
	case c.Dataset.Len() < int64(max(c.World, 1)):
		return fmt.Errorf("pipeline: %d samples are too few for World %d", c.Dataset.Len(), c.World)
	case part < int64(c.BatchSize) && !c.KeepLast:
		return fmt.Errorf("pipeline: a part of %d samples has no batch of %d: set KeepLast or lower BatchSize", part, c.BatchSize)
	case c.Start.Epoch < 0 || c.Start.Offset < 0 || c.Start.Offset > part:
		return fmt.Errorf("pipeline: Start is epoch %d, offset %d; an epoch has %d samples", c.Start.Epoch, c.Start.Offset, part)
	case c.Start.Bad < 0 || c.Start.Bad > c.Start.Offset:
		return fmt.Errorf("pipeline: Start has %d bad samples of %d", c.Start.Bad, c.Start.Offset)
	}
	return nil
}

// withDefaults fills in what was left zero in a valid configuration.
func (c Config) withDefaults() Config {
	if c.Shuffle == "" {
		c.Shuffle = ShuffleFull
	}
	if c.DType == "" {
		c.DType = Uint8
	}
	c.World = max(c.World, 1)
	if c.MaxBad == 0 {
		c.MaxBad = defaultMaxBad
	}
	if c.Workers == 0 {
		c.Workers = cpu.Cores()
	}
	if c.Batches == 0 {
		c.Batches = defaultBatches
	}
	if c.Allocator == nil {
		c.Allocator = memory.DefaultAllocator
	}
	return c
}

// maxBad is the number of bad samples that an epoch of n may have.
func (c *Config) maxBad(n int64) int64 {
	if c.MaxBad < 0 {
		return 0
	}
	return min(max(minBad, int64(c.MaxBad*float64(n))), n-1)
}

// Open starts reading. The pipeline ends with its stream, when ctx is
// cancelled, or by Close, which must be called in any case.
func Open(ctx context.Context, cfg Config) (*Pipeline, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return start(ctx, cfg.withDefaults())
}

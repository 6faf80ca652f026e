package pipeline

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/internal/event"
)

// Event is something that happened on the way: a BadSample or an EpochEnd.
type Event = event.Event

// Listener is told of events, in order and never by two goroutines at once. It
// must not call the pipeline.
type Listener = event.Listener

// BadSample says that a sample could not be read or decoded. Its batch is
// shorter by it.
type BadSample struct {
	Epoch int64
	Index int64  // row in the dataset
	Key   string // empty if even that could not be read
	Err   error
}

func (b BadSample) String() string {
	return fmt.Sprintf("epoch %d: sample %d (%s): %v", b.Epoch, b.Index, b.Key, b.Err)
}

// EpochEnd says that the epoch's last batch is complete.
type EpochEnd struct {
	Epoch int64
	Bad   int64 // samples left out of this epoch
	Stats Stats // since Open
}

func (e EpochEnd) String() string {
	return fmt.Sprintf("epoch %d: at its end, with %d bad samples; %.1f pairs/s so far", e.Epoch, e.Bad, e.Stats.PairsPerSecond())
}

// TooManyBadError ends a stream with more unreadable samples than
// Config.MaxBad allows.
type TooManyBadError struct {
	Epoch   int64
	Bad     int64 // of the epoch's samples so far
	Samples int64 // of the epoch
	Last    BadSample
}

func (e *TooManyBadError) Error() string {
	return fmt.Sprintf("pipeline: epoch %d: %d of %d samples are bad, more than allowed; the last: sample %d (%s): %v",
		e.Epoch, e.Bad, e.Samples, e.Last.Index, e.Last.Key, e.Last.Err)
}

func (e *TooManyBadError) Unwrap() error { return e.Last.Err }

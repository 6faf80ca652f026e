package train

import (
	"fmt"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/event"
	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
)

// Event is something that happened in a run: one of the types below, or one of
// package pipeline's, on whose stream the run trains.
type Event = event.Event

// Listener is told of events, in order and never by two goroutines at once. nil
// listens to none.
type Listener = event.Listener

// Waiting says that another run in the output is waited for: see Options.Wait.
type Waiting = lock.Waiting

// Unlocked says that nothing keeps another run away from the output, since its
// file system has no locks.
type Unlocked = lock.Unlocked

// Started says what a run trains, before its first step.
type Started struct {
	Device     string
	Options    Options
	Parameters int64 // trained ones
	Cells      int   // along a side of the feature map
	Images     int64 // drawn an epoch
	TotalSteps int64 // of the whole run
	// Init says what a new run took from a file of weights, nil without one.
	Init *InitReport
	// Resumed is the checkpoint that the run goes on from, nil for a new run.
	Resumed *checkpoint.Checkpoint
	// Ended says that the resumed run had already come to its end.
	Ended bool
}

func (e Started) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s on %s: %d steps on %d images", e.Options.Arch, e.Options.Method, e.Device, e.TotalSteps, e.Images)
	if e.Resumed != nil {
		fmt.Fprintf(&b, ", from %s", e.Resumed.Dir)
	}
	if e.Init != nil {
		fmt.Fprintf(&b, ", from %s", e.Init.Path)
	}
	return b.String()
}

// StepDone says what is known after a step.
type StepDone struct {
	Metrics
	TotalSteps int64
}

func (e StepDone) String() string {
	return fmt.Sprintf("step %d of %d: loss %.4f, %.1f pairs/s", e.Step, e.TotalSteps, e.Loss, e.PairsPerSecond)
}

// Saved says that a checkpoint was written.
type Saved struct {
	Step int64
	Dir  string
}

func (e Saved) String() string { return fmt.Sprintf("step %d saved as %s", e.Step, e.Dir) }

// UnsoundCheckpoint says that resumption passed over a damaged checkpoint.
type UnsoundCheckpoint struct{ Err error }

func (e UnsoundCheckpoint) String() string { return "checkpoint passed over: " + e.Err.Error() }

// NoCard says that device auto computes on the processor, and why.
type NoCard struct{ Err error }

func (e NoCard) String() string { return "no card can be used: " + e.Err.Error() }

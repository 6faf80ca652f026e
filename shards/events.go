package shards

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/internal/event"
	"github.com/seed-436d2970/pixpro/internal/lock"
)

// Event is something that happened: WriteProgress, Waiting and Unlocked of
// Write, VerifyProgress of Verify.
type Event = event.Event

// Waiting says that another writer of the folder is waited for: see
// WriteConfig.Wait.
type Waiting = lock.Waiting

// Unlocked says that nothing keeps another writer away, since the folder's file
// system has no locks.
type Unlocked = lock.Unlocked

// Listener is told of events, in order and never by two goroutines at once.
type Listener = event.Listener

func (p WriteProgress) String() string {
	return fmt.Sprintf("%d of %d files: %d images in %d shards, %d rejected", p.Files, p.TotalFiles, p.Rows, p.Shards, p.Rejected)
}

func (p VerifyProgress) String() string {
	return fmt.Sprintf("%d of %d bytes verified, %d faults", p.Bytes, p.TotalBytes, p.Faults)
}

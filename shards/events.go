package shards

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/internal/event"
)

// Event is something that happened: WriteProgress of Write, VerifyProgress of
// Verify.
type Event = event.Event

// Listener is told of events, in order and never by two goroutines at once.
type Listener = event.Listener

func (p WriteProgress) String() string {
	return fmt.Sprintf("%d of %d files: %d images in %d shards, %d rejected", p.Files, p.TotalFiles, p.Rows, p.Shards, p.Rejected)
}

func (p VerifyProgress) String() string {
	return fmt.Sprintf("%d of %d bytes verified, %d faults", p.Bytes, p.TotalBytes, p.Faults)
}

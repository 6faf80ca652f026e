package pipeline

import (
	"fmt"
	"strconv"
	"strings"
)

// Shuffle is the order of an epoch's samples.
type Shuffle string

const (
	ShuffleFull Shuffle = "full" // a permutation of the whole dataset, new in every epoch
	ShuffleNone Shuffle = "none" // as stored
)

const windowPrefix = "window:"

// ShuffleWindow is the order for disks that are slow at finding things: the
// shards in random order, the blocks of 64 samples of each shard in random
// order, and that mixed in windows of n samples. A window is asked for from
// the disk block by block, while the one before it is used; both are in the
// system's file cache then.
func ShuffleWindow(n int64) Shuffle { return Shuffle(windowPrefix + strconv.FormatInt(n, 10)) }

// window is the size of a window, 0 for the other orders.
func (s Shuffle) window() (int64, error) {
	if s == "" || s == ShuffleFull || s == ShuffleNone {
		return 0, nil
	}
	if text, ok := strings.CutPrefix(string(s), windowPrefix); ok {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("pipeline: Shuffle is %q, must be %q, %q or %s and a number of samples, as in %s4096",
		s, ShuffleFull, ShuffleNone, windowPrefix, windowPrefix)
}

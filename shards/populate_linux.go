package shards

import (
	"os"

	"golang.org/x/sys/unix"
)

// populate reads data[from:to] into memory at once, which takes less than
// meeting every page on its own. It is advice: nothing depends on its success.
func populate(data []byte, from, to int) {
	from -= from % os.Getpagesize()
	_ = unix.Madvise(data[from:to], unix.MADV_POPULATE_READ)
}

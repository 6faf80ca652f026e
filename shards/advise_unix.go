//go:build unix

package shards

import (
	"os"

	"golang.org/x/sys/unix"
)

// willNeed tells the system that data[from:to] will be read soon.
func willNeed(data []byte, from, to int) {
	from -= from % os.Getpagesize()
	_ = unix.Madvise(data[from:to], unix.MADV_WILLNEED)
}

//go:build unix

package main

import (
	"context"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// whileRead returns a context that is cancelled, with the cause EPIPE, when
// the reader of a pipe goes away, so that this does not show only when the next
// batch is written. The function that it returns ends the watch.
func whileRead(ctx context.Context, pipe *os.File) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		const interval = 50 // milliseconds, to see that ctx is done
		fds := []unix.PollFd{{Fd: int32(pipe.Fd())}}
		for ctx.Err() == nil {
			n, err := unix.Poll(fds, interval)
			switch {
			case err != nil && err != unix.EINTR:
				return // the next write tells
			case n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				cancel(syscall.EPIPE)
			case n > 0:
				return // not something that can be watched
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-ended
	}
}

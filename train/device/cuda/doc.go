// Package cuda is the training device for NVIDIA cards. It registers them
// as "cuda"; without the build tag cuda, opening one is ErrNotBuilt.
//
// Calls are queued, and one goroutine, locked to its thread, owns the card's
// context and carries them out in order: memory of an arena, kernels of
// kernels.cu, compiled by NVRTC for the card when the device is opened, and
// matrix products by cuBLAS. All of that happens on one stream, so that memory
// that is freed may be given out again at once: its next user runs later.
// Updates, moving averages and zeros of many tensors in a row are one launch.
// Views go up from pinned memory by a second stream, into a buffer of their
// own, while the last step's backward pass still computes.
//
// A 1x1 convolution is one matrix product; others are cuDNN's, if there is one and it
// has a way to compute them that rounds no more and gives the same bits every time,
// or gather windows (im2col), a part of the batch at a time. Sums have a fixed order: results repeat bit for
// bit on a card of which a GiB or more is free.
//
// The first call that fails is kept (see Device.Err), and nothing is computed
// after it.
package cuda

import "github.com/seed-436d2970/pixpro/train/device"

// Options choose a card and how it computes.
type Options struct {
	Ordinal   int // of the card, from 0
	Precision device.Precision
	// CacheDir keeps compiled kernels; "" is a folder below the user's cache.
	CacheDir string
	// Separate gives every tensor an allocation of its own, which is slow and
	// lets a checker see accesses outside of it.
	Separate bool

	//lint:ignore U1000 builds with the tag cuda use it
	workspace int64 // bytes for the gathered windows of a convolution, 0: by the card's size
	//lint:ignore U1000 builds with the tag cuda use it
	noConvolver bool // cuDNN is left alone
}

// Package cuda is the training device for NVIDIA cards. Without the build tag
// cuda it holds only the names of the precisions.
//
// Calls are queued, and one goroutine, locked to its thread, owns the card's
// context and carries them out in order: memory of an arena, kernels of
// kernels.cu, compiled by NVRTC for the card when the device is opened, and
// matrix products by cuBLAS. All of that happens on one stream, so that memory
// that is freed may be given out again at once: its next user runs later.
// Views go up from pinned memory by a second stream, into a buffer of their
// own, while the last step's backward pass still computes.
//
// A 1x1 convolution is one matrix product; others gather windows (im2col), a
// part of the batch at a time. Sums have a fixed order: results repeat bit for
// bit on a card of which a GiB or more is free.
//
// The first call that fails is kept (see Device.Err), and nothing is computed
// after it.
package cuda

import "fmt"

// Precision is what activations and the factors of matrix products are.
// Accumulation, statistics, losses, parameters and their updates are float32 or
// float64 in all of them.
type Precision string

// The precisions.
const (
	FP32 Precision = "fp32" // float32
	TF32 Precision = "tf32" // float32, rounded to 10 bits for matrix products
	BF16 Precision = "bf16" // bfloat16 activations and factors
)

// ParsePrecision reads the name of a precision.
func ParsePrecision(s string) (Precision, error) {
	switch p := Precision(s); p {
	case FP32, TF32, BF16:
		return p, nil
	}
	return "", fmt.Errorf("precision %q: use fp32, tf32 or bf16", s)
}

// Options choose a card and how it computes.
type Options struct {
	Ordinal   int // of the card, from 0
	Precision Precision
	// CacheDir keeps compiled kernels; "" is a folder below the user's cache.
	CacheDir string
	// Separate gives every tensor an allocation of its own, which is slow and
	// lets a checker see accesses outside of it.
	Separate bool

	workspace int64 // bytes for the gathered windows of a convolution, 0: by the card's size
}

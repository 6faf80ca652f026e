// Package decoding decodes images in several goroutines within a bound of memory.
package decoding

import (
	"context"
	"runtime/debug"

	"golang.org/x/sync/semaphore"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
)

// Memory is what workers have for the images that they decode at the same time.
type Memory struct {
	free *semaphore.Weighted
	size int64
}

// NewMemory is a bound of so many bytes. An image that needs more, as
// decode.Limits may allow, is decoded alone.
func NewMemory(size int64) *Memory { return &Memory{semaphore.NewWeighted(size), size} }

// NewSharedMemory is the bound of workers of a program that computes, too: some
// bytes for each, and together at least those of the largest image that
// decode.Limits allow by default.
func NewSharedMemory(workers int) *Memory {
	const each, least = 128 << 20, 384 << 20
	return NewMemory(max(least, each*int64(workers)))
}

// keptPixels bounds the memory that a worker keeps for the next image.
const keptPixels = 4 << 20

// keptEncoded bounds it for encoded images.
const keptEncoded = 4 << 20

// Worker decodes one image after another. It belongs to one goroutine at a time.
type Worker struct {
	// Copy has images copied before they are decoded, once there is the memory: for
	// those in a memory map, whose file may be cut short under a decoder in C.
	Copy bool

	memory   *Memory
	decoder  decode.Decoder
	encoded  []byte // the image, if it is copied
	image    augment.Image
	ctx      context.Context // of the call to Decode, for reserve
	needed   int64
	reserved int64
}

// NewWorker makes a worker that shares the memory with others.
func NewWorker(m *Memory, l decode.Limits) *Worker {
	w := &Worker{memory: m}
	w.decoder.Limits, w.decoder.Reserve = l, w.reserve
	return w
}

func (w *Worker) reserve(data []byte, bytes int64) ([]byte, error) {
	n := min(bytes, w.memory.size)
	if err := w.memory.free.Acquire(w.ctx, n); err != nil {
		return nil, err
	}
	w.needed, w.reserved = bytes, n
	if bytes > w.memory.size {
		debug.FreeOSMemory() // what smaller images left
	}
	if w.Copy {
		w.encoded = append(w.encoded[:0], data...)
		data = w.encoded
	}
	return data, nil
}

// Decode decodes as decode.Decoder.DecodeScaled does, once there is the memory
// that the image needs, and calls use, which may be nil, with the image. The
// image is gone afterwards.
func (w *Worker) Decode(ctx context.Context, data []byte, divisor int, use func(*augment.Image) error) error {
	w.ctx, w.needed, w.reserved = ctx, 0, 0
	defer func() { w.memory.free.Release(w.reserved) }()
	err := w.decoder.DecodeScaled(data, &w.image, divisor)
	if err == nil && use != nil {
		err = use(&w.image)
	}
	if cap(w.image.Pix) > 3*keptPixels {
		w.image, w.decoder = augment.Image{}, decode.Decoder{Limits: w.decoder.Limits, Reserve: w.decoder.Reserve}
	}
	if cap(w.encoded) > keptEncoded {
		w.encoded = nil
	}
	if w.needed > 96<<20 {
		debug.FreeOSMemory() // or the next image would come on top
	}
	return err
}

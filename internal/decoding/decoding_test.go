package decoding

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
)

// TestMemoryIsShared decodes with more workers than memory is there for.
func TestMemoryIsShared(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewNRGBA(image.Rect(0, 0, 200, 100))); err != nil {
		t.Fatal(err)
	}
	const one = 200 * 100 * 7
	memory := NewMemory(2*one + one/2)
	var now, most atomic.Int64
	done := make(chan error)
	const workers, images = 8, 20
	for range workers {
		go func() {
			w := NewWorker(memory, decode.Limits{})
			var err error
			for range images {
				err = errors.Join(err, w.Decode(t.Context(), b.Bytes(), 1, func(m *augment.Image) error {
					n := now.Add(1)
					defer now.Add(-1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					time.Sleep(100 * time.Microsecond)
					return nil
				}))
			}
			done <- err
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d images at the same time, want 2", most.Load())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := NewWorker(memory, decode.Limits{})
	err := w.Decode(ctx, b.Bytes(), 1, func(*augment.Image) error {
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	small := NewWorker(NewMemory(10), decode.Limits{}) // an image of more is decoded alone
	if err := small.Decode(t.Context(), b.Bytes(), 1, nil); err != nil {
		t.Error(err)
	}
}

//go:build cuda

package cuda

import (
	"fmt"
	"unsafe"

	"github.com/seed-436d2970/pixpro/train/device"
	"gorgonia.org/cu"
)

// stage is pinned memory that copies to the card start from, and, for views,
// memory on the card where they end. Stages take turns, so that one is filled
// while the last one is on its way.
type stage struct {
	host     unsafe.Pointer
	card     cu.DevicePtr
	hostSize int64
	cardSize int64
	copied   cu.Event // the host memory may be written again
	used     cu.Event // the card's memory may be
}

// open makes the stage's events; its memory comes with its first use.
func (s *stage) open(d *Device) error {
	for _, e := range []*cu.Event{&s.copied, &s.used} {
		var err error
		if *e, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return fmt.Errorf("create an event: %w", err)
		}
		d.opened(func() error { return cu.DestroyEvent(e) })
	}
	d.opened(func() error { return s.shrink() })
	return nil
}

// shrink gives the stage's memory up.
func (s *stage) shrink() (err error) {
	if s.hostSize > 0 {
		err = cu.MemFreeHost(s.host)
		s.hostSize = 0
	}
	if s.cardSize > 0 {
		if e := cu.MemFree(s.card); err == nil {
			err = e
		}
		s.cardSize = 0
	}
	return err
}

// grow waits until the stage is free and makes it hold that many bytes, on the
// card too if asked for.
func (s *stage) grow(d *Device, bytes int64, card bool) error {
	if err := s.copied.Synchronize(); err != nil {
		return fmt.Errorf("wait for an earlier upload: %w", err)
	}
	if s.hostSize >= bytes && (!card || s.cardSize >= bytes) {
		return nil
	}
	if err := s.used.Synchronize(); err != nil {
		return fmt.Errorf("wait for an earlier upload: %w", err)
	}
	if err := s.shrink(); err != nil {
		return fmt.Errorf("free a smaller upload buffer: %w", err)
	}
	var err error
	if s.host, err = allocPinned(bytes); err != nil {
		return err
	}
	s.hostSize = bytes
	if card {
		if s.card, err = d.memAlloc(bytes); err != nil {
			return fmt.Errorf("memory for views: %w: %w", err, d.full(bytes))
		}
		s.cardSize = bytes
	}
	return nil
}

// bytes are the stage's pinned memory.
func (s *stage) bytes(n int64) []byte { return unsafe.Slice((*byte)(s.host), n) }

// small is how many floats an upload may have to go through a stage and not
// wait for the card.
const small = 1 << 18

// Upload implements device.Device.
func (d *Device) Upload(dst device.Tensor, src []float32) {
	mustBe(dst.Len() == len(src), "upload of %d floats to %v", len(src), dst.Shape)
	if len(src) == 0 {
		return
	}
	if isHalf(dst) {
		wide := d.Alloc(dst.Len())
		d.Upload(wide, src)
		d.launchFlat("narrow", dst.Len(), size(dst)+size(wide), dst, wide, dst.Len())
		d.Free(wide)
		return
	}
	p, bytes := cu.DevicePtr(pointer(dst)), 4*int64(len(src))
	d.wait(func() error {
		if len(src) > small {
			// A plain copy from memory that is not pinned may return before it has
			// arrived, and d.stream does not wait for the stream that it is on.
			if err := cu.MemcpyHtoDAsync(p, unsafe.Pointer(&src[0]), bytes, d.stream); err != nil {
				return fmt.Errorf("copy %d values to the card: %w", len(src), err)
			}
			return d.finish()
		}
		s := &d.floats[d.turns.floats%len(d.floats)]
		d.turns.floats++
		if err := s.grow(d, max(bytes, 1<<16), false); err != nil {
			return err
		}
		copy(s.bytes(bytes), unsafe.Slice((*byte)(unsafe.Pointer(&src[0])), bytes))
		if err := cu.MemcpyHtoDAsync(p, s.host, bytes, d.stream); err != nil {
			return fmt.Errorf("copy %d values to the card: %w", len(src), err)
		}
		if err := s.copied.Record(d.stream); err != nil {
			return fmt.Errorf("order an upload: %w", err)
		}
		return nil
	})
}

// UploadViews implements device.Device: the pixels go up as bytes on a stream
// of their own, while the card computes what was queued before.
func (d *Device) UploadViews(dst device.Tensor, views [2][]uint8, mean, std [3]float64) {
	images, area := dst.Shape[0]/2, dst.Shape[1]*dst.Shape[2]
	for _, v := range views {
		mustBe(dst.Shape[3] == 3 && 6*area*images == dst.Len() && len(v) == images*3*area, "upload of views of %d pixel values to %v", len(v), dst.Shape)
	}
	if images == 0 {
		return
	}
	var scale, shift [3]float32
	for c := range scale {
		scale[c], shift[c] = float32(1/(255*std[c])), float32(-mean[c]/std[c])
	}
	half := int64(len(views[0]))
	var s *stage
	d.wait(func() error {
		s = &d.views[d.turns.views%len(d.views)]
		d.turns.views++
		if err := s.grow(d, 2*half, true); err != nil {
			return err
		}
		pinned := s.bytes(2 * half)
		copy(pinned, views[0])
		copy(pinned[half:], views[1])
		// The card's part of the stage is read by kernels of two batches ago.
		if err := d.copies.Wait(s.used, 0); err != nil {
			return fmt.Errorf("order the upload of views: %w", err)
		}
		if err := cu.MemcpyHtoDAsync(s.card, s.host, 2*half, d.copies); err != nil {
			return fmt.Errorf("upload views: %w", err)
		}
		if err := s.copied.Record(d.copies); err != nil {
			return fmt.Errorf("order the upload of views: %w", err)
		}
		if err := d.stream.Wait(s.copied, 0); err != nil {
			return fmt.Errorf("order the upload of views: %w", err)
		}
		return nil
	})
	if d.failure.Load() != nil {
		return
	}
	pixels := 2 * images * area
	d.launchFlat("upload_views", pixels, 2*half+size(dst), dst, uintptr(s.card), pixels, area,
		scale[0], scale[1], scale[2], shift[0], shift[1], shift[2])
	d.do(func() error {
		if err := s.used.Record(d.stream); err != nil {
			return fmt.Errorf("order the upload of views: %w", err)
		}
		return nil
	})
}

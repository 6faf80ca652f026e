package shards

import (
	"bytes"
	"context"
	"hash/crc32"
	"image/jpeg"
	"math"

	"golang.org/x/sync/semaphore"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

const (
	// jpegQuality is that of images which MaxSide shrinks.
	jpegQuality = 90
	// decodedBytes bounds the memory of images being decoded, those apart that
	// need more than that for themselves.
	decodedBytes = 192 << 20
	// bytesPerPixel is what decoding takes at worst: a progressive JPEG has
	// three 32-bit coefficients a pixel besides its planes and the result.
	bytesPerPixel = 18
	// keptPixels bounds the memory that a decoder keeps for the next image.
	keptPixels = 4 << 20
)

// pixelMemory bounds the images that are decoded at the same time.
type pixelMemory struct{ *semaphore.Weighted }

func newPixelMemory() pixelMemory { return pixelMemory{semaphore.NewWeighted(decodedBytes)} }

// decoder decodes images within a bound of memory.
type decoder struct {
	memory pixelMemory
	decode.Decoder
	image augment.Image
}

// with decodes data, whose header is h, and calls use, which may be nil, while
// the pixels are there.
func (d *decoder) with(ctx context.Context, h decode.Header, data []byte, use func(*augment.Image) error) error {
	pixels := min(int64(h.Width), math.MaxInt32) * min(int64(h.Height), math.MaxInt32)
	weight := int64(decodedBytes)
	if pixels < decodedBytes/bytesPerPixel {
		weight = pixels * bytesPerPixel
	}
	if err := d.memory.Acquire(ctx, weight); err != nil {
		return err
	}
	defer d.memory.Release(weight)
	err := d.Decode(data, &d.image)
	if err == nil && use != nil {
		err = use(&d.image)
	}
	if cap(d.image.Pix) > 3*keptPixels {
		*d = decoder{memory: d.memory}
	}
	return err
}

// examiner looks at what was read: one a worker.
type examiner struct {
	check   Check
	maxSide int // 0: as they come
	decoder decoder
	scratch augment.Scratch
}

// examine completes a job whose bytes were read.
func (e *examiner) examine(ctx context.Context, j *job) error {
	var err error
	if j.header, err = decode.ReadHeader(j.data); err != nil {
		if !ingest.HasImageExtension(j.Key) {
			return errNotImage
		}
		return &ingest.RejectError{Reason: err.Error()}
	}
	shrink := e.maxSide > 0 && max(j.header.Width, j.header.Height) > e.maxSide
	if shrink || e.check == CheckDecode {
		use := func(*augment.Image) error { return nil }
		if shrink {
			use = func(m *augment.Image) error { return e.shrink(j, m) }
		}
		if err := e.decoder.with(ctx, j.header, j.data, use); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &ingest.RejectError{Reason: err.Error()}
		}
	}
	j.crc = crc32.Checksum(j.data, castagnoli)
	return nil
}

// shrink makes the job's image a JPEG whose longer side is maxSide.
func (e *examiner) shrink(j *job, m *augment.Image) error {
	scale := float64(e.maxSide) / float64(max(m.Width, m.Height))
	w := max(1, int(math.Round(scale*float64(m.Width))))
	h := max(1, int(math.Round(scale*float64(m.Height))))
	planes := augment.NewPlanes(w, h)
	augment.ResizedCrop(planes, *m, augment.Rect{Height: m.Height, Width: m.Width}, &e.scratch)

	var data bytes.Buffer
	if err := jpeg.Encode(&data, planes.RGBA(), &jpeg.Options{Quality: jpegQuality}); err != nil {
		return err
	}
	j.data = data.Bytes()
	j.header = decode.Header{Format: "jpeg", Width: w, Height: h}
	return nil
}

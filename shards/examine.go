package shards

import (
	"bytes"
	"context"
	"hash/crc32"
	"image/jpeg"
	"math"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

const (
	// jpegQuality is that of images which MaxSide shrinks.
	jpegQuality = 90
	// decodedBytes bounds the memory of images being decoded, those apart that
	// need more than that for themselves.
	decodedBytes = 192 << 20
)

// examiner looks at what was read: one a worker.
type examiner struct {
	check   Check
	maxSide int // 0: as they come
	decoder *decoding.Worker
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
		var use func(*augment.Image) error
		if shrink {
			use = func(m *augment.Image) error { return e.shrink(j, m) }
		}
		if err := e.decoder.Decode(ctx, j.data, 1, use); err != nil {
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

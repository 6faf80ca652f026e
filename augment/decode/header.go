package decode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"
)

// Header is what an encoded image says about itself.
type Header struct {
	Format        string // "jpeg", "png", "bmp", "gif" or "webp"
	Width, Height int    // in pixels, at least 1, as stored
}

// ReadHeader finds the format by content and reads the size. It allocates
// nothing that depends on that size. Errors are of class ErrFormat.
func ReadHeader(data []byte) (Header, error) {
	h := Header{Format: sniff(data)}
	var err error
	switch h.Format {
	case "jpeg":
		var j jpegHeader
		j, err = readJPEGHeader(data)
		h.Width, h.Height = j.width, j.height
	case "png":
		h.Width, h.Height, err = pngSize(data)
	case "gif":
		h.Width, h.Height, err = gifSize(data)
	case "bmp":
		h.Width, h.Height, err = configSize(bmp.DecodeConfig, data)
	case "webp":
		h.Width, h.Height, err = configSize(webp.DecodeConfig, data)
	default:
		return Header{}, fmt.Errorf("decode: %w: %s", ErrFormat, describe(data))
	}
	if err == nil && (h.Width < 1 || h.Height < 1) {
		err = fmt.Errorf("no pixels: %d x %d", h.Width, h.Height)
	}
	if err != nil {
		return Header{}, fmt.Errorf("decode: %w: %s header: %w", ErrFormat, h.Format, err)
	}
	return h, nil
}

// signatures are the first bytes of a format; a question mark stands for any.
var signatures = []struct{ format, prefix string }{
	{"jpeg", "\xff\xd8\xff"},
	{"png", "\x89PNG\r\n\x1a\n"},
	{"gif", "GIF87a"},
	{"gif", "GIF89a"},
	{"bmp", "BM"},
	{"webp", "RIFF????WEBP"},
}

// sniff returns the format that the data begins like, "" if none.
func sniff(data []byte) string {
next:
	for _, s := range signatures {
		if len(data) < len(s.prefix) {
			continue
		}
		for i := range len(s.prefix) {
			if s.prefix[i] != '?' && s.prefix[i] != data[i] {
				continue next
			}
		}
		return s.format
	}
	return ""
}

// describe says what there is instead of an image.
func describe(data []byte) string {
	if len(data) == 0 {
		return "the file is empty"
	}
	return fmt.Sprintf("%d bytes that begin with %q are neither JPEG, PNG, GIF, BMP nor WebP", len(data), data[:min(len(data), 12)])
}

// pngSize reads the header chunk, which is always the first.
func pngSize(data []byte) (width, height int, err error) {
	const length, ihdr, size, end = 8, 12, 16, 24
	if len(data) < end {
		return 0, 0, io.ErrUnexpectedEOF
	}
	if string(data[ihdr:size]) != "IHDR" {
		return 0, 0, fmt.Errorf("the first chunk is %q, not IHDR", data[ihdr:size])
	}
	w, h := binary.BigEndian.Uint32(data[size:]), binary.BigEndian.Uint32(data[size+4:])
	if w > 1<<31-1 || h > 1<<31-1 {
		return 0, 0, fmt.Errorf("sides of %d x %d pixels", w, h)
	}
	return int(w), int(h), nil
}

// pngBits returns how many bits a pixel takes before compression, 0 if the
// header chunk is cut off or there is no such colour type.
func pngBits(data []byte) int64 {
	const depth, colourType, end = 24, 25, 26
	if len(data) < end {
		return 0
	}
	channels := map[uint8]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4} // grey, RGB, palette, with alpha: grey, RGB
	return channels[data[colourType]] * int64(data[depth])
}

// configSize reads the size with a decoder's own DecodeConfig.
func configSize(decodeConfig func(io.Reader) (image.Config, error), data []byte) (width, height int, err error) {
	c, err := guard(decodeConfig, bytes.NewReader(data))
	return c.Width, c.Height, err
}

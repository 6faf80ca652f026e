package decode

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Defaults of Limits.
const (
	// DefaultMaxPixels is the size from which Pillow warns of a decompression bomb.
	DefaultMaxPixels = 89_478_485
	DefaultMaxTime   = 10 * time.Second
)

// mostScans is far more than a photograph has: encoders write about ten to a
// progressive JPEG.
const mostScans = 100

// Limits bound what one image may cost. What an image costs is found in its
// bytes before any pixel is decoded, so that the same images are refused on every
// machine and with every library.
type Limits struct {
	// MaxPixels bounds the pixels, and the memory: the encoded image and its
	// decoding may take 4.5 bytes for each, 384 MiB by default, which an ordinary
	// photograph (baseline JPEG, 4:2:0) takes beside its encoded bytes. What takes
	// more for a pixel is refused from fewer pixels on, by default from 57 million of
	// a PNG and from 22 to 38 million of a progressive JPEG. 0 = DefaultMaxPixels.
	MaxPixels int64
	// MaxTime bounds the time, at the speed of the decoders in Go on one core of
	// the 2020s. 0 = DefaultMaxTime.
	MaxTime time.Duration
}

// Validate says which field cannot be used.
func (l Limits) Validate() error {
	switch {
	case l.MaxPixels < 0:
		return fmt.Errorf("MaxPixels is %d, must not be negative", l.MaxPixels)
	case l.MaxTime < 0:
		return fmt.Errorf("MaxTime is %v, must not be negative", l.MaxTime)
	}
	return nil
}

// withDefaults fills in what is 0.
func (l Limits) withDefaults() Limits {
	if l.MaxPixels == 0 {
		l.MaxPixels = DefaultMaxPixels
	}
	if l.MaxTime == 0 {
		l.MaxTime = DefaultMaxTime
	}
	return l
}

// memory is what decoding an image may take, in bytes.
func (l Limits) memory() int64 { return max(leastMemory, 9*min(l.MaxPixels, 1<<59)/2) }

// leastMemory is what an image may always take, so that MaxPixels alone decides
// about small ones.
const leastMemory = 16 << 20

// check returns what decoding an image takes, or an error of class ErrTooLarge if
// that is more than the limits.
func (l Limits) check(h Header, data []byte) (cost, error) {
	l = l.withDefaults()
	tooLarge := func(format string, args ...any) (cost, error) {
		return cost{}, fmt.Errorf("decode: %w: %s of %d x %d pixels "+format, append([]any{ErrTooLarge, h.Format, h.Width, h.Height}, args...)...)
	}
	if pixels := h.pixels(); pixels > l.MaxPixels {
		return tooLarge("has %d pixels, the limit (--max-pixels) is %d", pixels, l.MaxPixels)
	}
	c := h.cost(data)
	c.memory += int64(len(data))
	switch {
	case c.scans > mostScans:
		return tooLarge("has %d scans, the limit is %d", c.scans, mostScans)
	case c.memory > l.memory():
		return tooLarge("takes %d MiB to decode, the limit is %d MiB (4.5 bytes for each of --max-pixels)", mebibytes(c.memory), mebibytes(l.memory()))
	case c.time > l.MaxTime:
		return tooLarge("takes about %v to decode, the limit (--max-decode-time) is %v", c.time.Round(time.Millisecond), l.MaxTime)
	}
	return c, nil
}

func mebibytes(n int64) int64 { return (n + 1<<19) >> 20 }

// cost is the most that decoding an image takes.
type cost struct {
	memory int64 // bytes, with those of the result, without those of the file
	time   time.Duration
	scans  int // of a JPEG
}

func (h Header) pixels() int64 { return int64(h.Width) * int64(h.Height) }

// cost adds up what the decoders allocate and do. Times are measured on large
// images and rounded up; see BenchmarkCost.
func (h Header) cost(data []byte) cost {
	const result = 3 // bytes a pixel
	n, size := h.pixels(), int64(len(data))
	switch h.Format {
	case "jpeg":
		return jpegCost(data, n)
	case "png":
		// What image/png has for a pixel, if there is transparency, too.
		const header = 8 + 8 + 13
		if len(data) < header {
			return cost{} // it is not decoded either
		}
		held, bits := int64(4), pngBits(data)
		switch depth, colourType := data[24], data[25]; {
		case depth == 16:
			held = 8
		case colourType == 3: // a palette
			held = 1
		}
		raw := n * bits / 8
		if data[28] != 0 { // interlaced: seven images that are merged into one
			held *= 2
		}
		return cost{memory: n * (held + result), time: nanoseconds(8*raw + 10*n + 120*size)} // blocks may be empty
	case "gif":
		// The frame, the same in the order of its rows, and the screen.
		return cost{memory: n * (2 + result), time: nanoseconds(15*n + 5*size)}
	case "webp":
		// Lossless: what is stored and what a palette makes of it; and trees, of
		// which x/image takes 2600 groups. Whoever makes a file for it gets 55 kB into
		// a group, and 256 bytes for a byte of the file.
		lossless := cost{memory: 8*n + min(2600*55_000, 256*size), time: nanoseconds(60*n + 30*size)}
		kind := webpKind(data)
		if kind == webpLossless {
			lossless.memory += n * result
			return lossless
		}
		c := cost{memory: n*3/2 + n*result, time: nanoseconds(50*n + 30*size)}
		if kind == webpAlpha { // a lossless image, and its green samples
			c.memory += lossless.memory + n
			c.time += lossless.time
		}
		return c
	default:
		return cost{memory: n * (4 + result), time: nanoseconds(5 * n)}
	}
}

func nanoseconds(n int64) time.Duration { return time.Duration(n) }

// jpegCost is of an image of n pixels.
func jpegCost(data []byte, n int64) cost {
	h, err := readJPEGHeader(data)
	if err != nil {
		return cost{} // it is not decoded either
	}
	// Samples for 64 pixels, as many as there are coefficients.
	var across, down, samples int64 = 1, 1, 0
	for _, c := range h.components {
		across, down = max(across, int64(c.sampling>>4)), max(down, int64(c.sampling&15))
	}
	for _, c := range h.components {
		samples += n * int64(c.sampling>>4) * int64(c.sampling&15) / (across * down)
	}
	scans := int64(0)
	for s := range segments(data) {
		if s.marker == markerSOS {
			scans++
		}
	}
	const result = 3
	c := cost{scans: int(scans), memory: samples + n*result}
	if len(h.components) == 4 {
		c.memory += n * (4 + 3) // as they are, and three of them upsampled
	}
	switch {
	case h.progressive:
		c.memory += 4 * samples // coefficients in Go, where libjpeg has 2 bytes
	case scans > 1:
		c.memory += 2 * samples // in libjpeg
	}
	const bytesNS, blockNS, pixelNS = 20, 10, 15
	c.time = nanoseconds(bytesNS*int64(len(data)) + blockNS*scans*samples/64 + pixelNS*n)
	if h.arithmetic { // only libjpeg decodes it; a value can take less than a bit
		const valueNS = 10
		c.time = nanoseconds(bytesNS*int64(len(data)) + valueNS*scans*samples + pixelNS*n)
	}
	return c
}

// Kinds of WebP files.
const (
	webpLossy = iota
	webpAlpha // lossy, with transparency
	webpLossless
)

// webpKind looks for the chunks that take most.
func webpKind(data []byte) int {
	kind := webpLossy
	for at := 12; at+8 <= len(data); {
		switch string(data[at : at+4]) {
		case "VP8L":
			return webpLossless
		case "ALPH":
			kind = webpAlpha
		}
		length := int(binary.LittleEndian.Uint32(data[at+4:]))
		at += 8 + length + length&1
		if length > len(data) {
			break
		}
	}
	return kind
}

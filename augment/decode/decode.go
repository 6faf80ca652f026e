package decode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	"golang.org/x/image/bmp"

	"github.com/seed-436d2970/pixpro/augment"
)

// Classes of errors, for errors.Is.
var (
	// ErrFormat is data that cannot be decoded: an unknown or unsupported
	// format, or a file that is damaged or cut off (often io.ErrUnexpectedEOF,
	// too).
	ErrFormat = errors.New("cannot decode image")
	// ErrTooLarge is an image that takes more than Limits allow.
	ErrTooLarge = errors.New("image too large")
)

// Decoder decodes images one after another, with working memory that it keeps.
// The zero value is ready. It belongs to one goroutine at a time.
type Decoder struct {
	Limits
	// Reserve, if it is set, is asked before anything is allocated for an image,
	// with the bytes that decoding takes at most, the encoded and the decoded image
	// included. What it returns is decoded: data, or a copy where data is memory
	// that can go away. Its error ends the call.
	Reserve func(data []byte, bytes int64) ([]byte, error)

	portable bool       // leaves libjpeg-turbo alone
	chroma   [2][]uint8 // Cb and Cr of one row, upsampled
	cmyk     []uint8    // pixels of four components
}

// Decode decodes the image into dst, reusing the memory of dst.Pix where it is
// large enough. After an error the content of dst is unknown. Errors are of
// class ErrFormat or ErrTooLarge.
func (d *Decoder) Decode(data []byte, dst *augment.Image) error {
	return d.DecodeScaled(data, dst, 1)
}

// DecodeScaled is Decode at a fraction of the size: sides are divided by 1, 2, 4
// or 8 (augment.LargestScale finds it) and rounded up. It saves most of the
// time that big photographs take, but what is cropped and resized from its
// result is not, to the byte, what it would be from the whole image. Only JPEG
// by libjpeg-turbo can be scaled; otherwise the image has its whole size, as dst
// tells. It panics if the divisor is none of these.
func (d *Decoder) DecodeScaled(data []byte, dst *augment.Image, divisor int) error {
	if divisor != 1 && divisor != 2 && divisor != 4 && divisor != 8 {
		panic("decode: a scale is 1, 2, 4 or 8")
	}
	h, err := ReadHeader(data)
	if err != nil {
		return err
	}
	c, err := d.Limits.check(h, data)
	if err != nil {
		return err
	}
	if d.Reserve != nil {
		if data, err = d.Reserve(data, c.memory); err != nil {
			return err
		}
	}
	if err := d.decode(h, data, dst, divisor); err != nil {
		return fmt.Errorf("decode: %w: %s of %d x %d pixels: %w", ErrFormat, h.Format, h.Width, h.Height, err)
	}
	if divisor > 1 && dst.Width == ceil(h.Width, divisor) && dst.Height == ceil(h.Height, divisor) {
		return nil
	}
	if dst.Width != h.Width || dst.Height != h.Height {
		return fmt.Errorf("decode: %w: %s of %d x %d pixels announces %d x %d", ErrFormat, h.Format, dst.Width, dst.Height, h.Width, h.Height)
	}
	return nil
}

// ceil is n/divisor, rounded up.
func ceil(n, divisor int) int { return (n + divisor - 1) / divisor }

func (d *Decoder) decode(h Header, data []byte, dst *augment.Image, divisor int) error {
	if !h.fits(data) {
		return io.ErrUnexpectedEOF
	}
	switch h.Format {
	case "jpeg":
		return d.decodeJPEG(data, dst, divisor)
	case "gif":
		return decodeGIF(data, dst)
	case "webp":
		return d.decodeWebP(data, dst)
	case "png":
		return decodeRaster(png.Decode, data, dst)
	default:
		return decodeRaster(bmp.Decode, data, dst)
	}
}

// fits reports whether so few bytes can hold the image at all. The decoders
// allocate what the header claims; this stops small files that claim a lot.
func (h Header) fits(data []byte) bool {
	// The most pixels in a byte.
	var most int64
	switch h.Format {
	case "jpeg":
		most = 8 * 8 * 8 // a bit for a block: one component is not subsampled
	case "png":
		bits := pngBits(data)
		if bits == 0 {
			return false
		}
		most = 8 * 1032 / bits // deflated as far as deflate can
	case "bmp":
		most = 8 // a bit a pixel
	case "gif":
		most = 4096 // of a string of LZW's, whose codes take 12 bits then
	default:
		return true // an even image takes no bits a pixel
	}
	return h.pixels() <= most*int64(len(data))
}

// decodeRaster is for formats whose decoder keeps the stored samples.
func decodeRaster(decode func(io.Reader) (image.Image, error), data []byte, dst *augment.Image) error {
	m, err := guard(decode, bytes.NewReader(data))
	if err != nil {
		return err
	}
	return copyRaster(dst, m)
}

// guard calls a decoder of somebody else's. A panic in one, met before on
// damaged files, must not end a run over millions of images; what it says is of
// no use to whoever has the file.
func guard[T any](decode func(io.Reader) (T, error), r io.Reader) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the decoder stopped on it: the file is damaged, or made to do harm")
		}
	}()
	return decode(r)
}

// resize gives dst the size, with unknown content.
func resize(dst *augment.Image, width, height int) {
	n := 3 * width * height
	if cap(dst.Pix) < n {
		dst.Pix = make([]uint8, n)
	}
	dst.Width, dst.Height, dst.Pix = width, height, dst.Pix[:n]
}

package decode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"iter"

	"github.com/seed-436d2970/pixpro/augment"
)

// jpegHeader is what stands before the first scan of a JPEG file.
type jpegHeader struct {
	width, height int
	progressive   bool
	arithmetic    bool // coded so, not by Huffman
	components    []jpegComponent
	adobe         int // where the colour transform of the Adobe marker is, 0 if there is none
}

type jpegComponent struct {
	id       uint8
	sampling uint8 // horizontal<<4 | vertical
	table    uint8 // of quantization
}

// segment is a marker of a JPEG file that parameters follow.
type segment struct {
	marker uint8
	at     int // where the parameters begin in the file
	body   []byte
}

// Markers by their second byte.
const (
	markerRST0, markerSOI, markerEOI, markerSOS = 0xD0, 0xD8, 0xD9, 0xDA
	markerDHT, markerJPG, markerDAC, markerDQT  = 0xC4, 0xC8, 0xCC, 0xDB
	markerSOF2, markerTEM, markerAPP14          = 0xC2, 0x01, 0xEE
)

// segments walks a JPEG file up to its end or to where it is damaged. Bytes
// between segments, as the data of a scan, and fill bytes are skipped.
func segments(data []byte) iter.Seq[segment] {
	return func(yield func(segment) bool) {
		for at := 2; ; {
			skip := bytes.IndexByte(data[at:], 0xFF)
			if skip < 0 {
				return
			}
			for at += skip; at < len(data) && data[at] == 0xFF; {
				at++
			}
			if at+3 > len(data) || data[at] == markerEOI {
				return
			}
			marker := data[at]
			at++
			if marker == 0 || marker == markerTEM || markerRST0 <= marker && marker <= markerSOI {
				continue // a data byte, or a marker that stands alone
			}
			length := int(data[at])<<8 | int(data[at+1])
			if length < 2 || at+length > len(data) {
				return
			}
			if !yield(segment{marker, at + 2, data[at+2 : at+length]}) {
				return
			}
			at += length
		}
	}
}

// readJPEGHeader reads the segments up to the first scan. Once the size is
// known, missing data is left for the decoder to find.
func readJPEGHeader(data []byte) (jpegHeader, error) {
	var h jpegHeader
	for s := range segments(data) {
		if s.marker == markerSOS {
			break
		}
		if s.marker == markerAPP14 && len(s.body) >= 12 && string(s.body[:5]) == "Adobe" {
			h.adobe = s.at + 11
		}
		if !isFrame(s.marker) {
			continue
		}
		if len(s.body) < 6 || len(s.body) < 6+3*int(s.body[5]) {
			return h, errors.New("short frame segment")
		}
		h.height = int(s.body[1])<<8 | int(s.body[2])
		h.width = int(s.body[3])<<8 | int(s.body[4])
		h.arithmetic = s.marker > markerJPG
		h.progressive = s.marker&3 == markerSOF2&3
		h.components = make([]jpegComponent, 0, s.body[5])
		for i := range int(s.body[5]) {
			h.components = append(h.components, jpegComponent{s.body[6+3*i], s.body[7+3*i], s.body[8+3*i]})
		}
	}
	if h.components == nil {
		return h, io.ErrUnexpectedEOF
	}
	return h, nil
}

// checkScans looks for a scan of each component that has its mean values, and
// for the quantization table that it needs. A decoder may take one that has none
// for zeros.
func (h *jpegHeader) checkScans(data []byte) error {
	var found, tables [256]bool
	for s := range segments(data) {
		if s.marker == markerDQT {
			for body := s.body; len(body) > 0; body = body[min(len(body), 1+64*(1+int(body[0]>>4))):] {
				tables[body[0]&15] = true
			}
		}
		if s.marker != markerSOS || len(s.body) < 1 {
			continue
		}
		n := int(s.body[0])
		if len(s.body) < 4+2*n || s.body[1+2*n] > 0 {
			continue // later frequencies only
		}
		for i := range n {
			id := s.body[1+2*i]
			found[id] = true
			for _, c := range h.components {
				if c.id == id && !tables[c.table] {
					return fmt.Errorf("no quantization table %d for component %d: %w", c.table, id, io.ErrUnexpectedEOF)
				}
			}
		}
	}
	for i, c := range h.components {
		if !found[c.id] {
			return fmt.Errorf("no scan of component %d: %w", i+1, io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// isFrame reports whether a marker starts a frame of any kind: 0xC0 to 0xCF but
// for the tables and the extension among them.
func isFrame(marker uint8) bool {
	return 0xC0 <= marker && marker <= 0xCF && marker != markerDHT && marker != markerJPG && marker != markerDAC
}

// decodeJPEG decodes with libjpeg-turbo if there is one, otherwise in Go.
//
// libjpeg goes on after a warning, and says only the first: bytes too many, or
// pixels made up in place of those that are missing. image/jpeg stops at what is
// missing, so it decides about such a file.
func (d *Decoder) decodeJPEG(data []byte, dst *augment.Image, divisor int) error {
	h, err := readJPEGHeader(data)
	if err != nil {
		return err
	}
	if err := h.checkScans(data); err != nil {
		return err
	}
	library, _ := turboJPEG()
	if library == nil || d.portable {
		return d.decodeJPEGInGo(data, dst, &h)
	}
	err = d.decodeTurbo(library, data, dst, &h, divisor)
	var warning turboWarning
	if !errors.As(err, &warning) {
		return err
	}
	if _, err := readJPEGInGo(data, &h); err != nil {
		return fmt.Errorf("%w: %w", warning, err)
	}
	return nil
}

// decodeTurbo decodes with libjpeg-turbo. Of four components, Pillow takes every
// file to be inverted, as Adobe's are.
func (d *Decoder) decodeTurbo(library *turboLibrary, data []byte, dst *augment.Image, h *jpegHeader, divisor int) error {
	resize(dst, ceil(h.width, divisor), ceil(h.height, divisor))
	if len(h.components) != 4 {
		return library.decompress(data, dst.Pix, turboRGB, h.width, h.height, divisor)
	}
	n := 4 * dst.Width * dst.Height
	if cap(d.cmyk) < n {
		d.cmyk = make([]uint8, n)
	}
	d.cmyk = d.cmyk[:n]
	err := library.decompress(data, d.cmyk, turboCMYK, h.width, h.height, divisor)
	for i, out := 0, dst.Pix; i+4 <= n && len(out) >= 3; i, out = i+4, out[3:] {
		light := d.cmyk[i+3]
		for c, v := range d.cmyk[i : i+3] {
			out[c] = light - product(255-v, light)
		}
	}
	return err
}

// decodeJPEGInGo decodes with image/jpeg, and converts colours as libjpeg does.
func (d *Decoder) decodeJPEGInGo(data []byte, dst *augment.Image, h *jpegHeader) error {
	m, err := readJPEGInGo(data, h)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *image.YCbCr:
		return d.copyYCbCr(dst, m)
	case *image.CMYK:
		return d.copyCMYK(dst, m, h, data)
	default: // grey, or a file that stores RGB
		return copyRaster(dst, m)
	}
}

func readJPEGInGo(data []byte, h *jpegHeader) (image.Image, error) {
	r := io.Reader(bytes.NewReader(data))
	if len(h.components) == 4 {
		r = h.withoutTransform(data)
	}
	return guard(jpeg.Decode, r)
}

// withoutTransform presents a file of four components as one whose Adobe marker
// says that they are stored as they are: image/jpeg asks for such a marker, and
// its own conversion of YCCK would not be libjpeg's.
func (h *jpegHeader) withoutTransform(data []byte) io.Reader {
	before, change, after := data[:2], []byte("\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"), data[2:]
	if h.adobe > 0 {
		before, change, after = data[:h.adobe], []byte{0}, data[h.adobe+1:]
	}
	return io.MultiReader(bytes.NewReader(before), bytes.NewReader(change), bytes.NewReader(after))
}

// copyCMYK converts four components, which image/jpeg has inverted: Pillow, too,
// takes every such file to be inverted, as Adobe's are.
func (d *Decoder) copyCMYK(dst *augment.Image, m *image.CMYK, h *jpegHeader, data []byte) error {
	if h.adobe > 0 && data[h.adobe] != 0 {
		// YCCK: what libjpeg makes of it is CMY = 255 - RGB, inverted again RGB.
		if err := d.copyYCbCr(dst, storedYCbCr(m, h.components)); err != nil {
			return err
		}
	} else {
		copySamples(dst, m.Rect, m.Pix, m.Stride, 4, 0, 1, 2)
	}
	for y := range dst.Height {
		row := dst.Pix[3*y*dst.Width:][:3*dst.Width]
		for x := range dst.Width {
			light := 255 - m.Pix[y*m.Stride+4*x+3]
			for c, ink := range row[3*x:][:3] {
				row[3*x+c] = light - product(ink, light)
			}
		}
	}
	return nil
}

// product is a*b/255, rounded to nearest.
func product(a, b uint8) uint8 {
	v := uint32(a)*uint32(b) + 128
	return uint8((v + v>>8) >> 8)
}

// storedYCbCr takes the first three components back from the image that
// image/jpeg makes of YCCK without a transform: inverted, and with each chroma
// sample repeated where it is subsampled (by two each way, or not at all).
func storedYCbCr(m *image.CMYK, components []jpegComponent) *image.YCbCr {
	ratio, step := image.YCbCrSubsampleRatio444, 1
	if components[0].sampling != components[1].sampling {
		ratio, step = image.YCbCrSubsampleRatio420, 2
	}
	out := image.NewYCbCr(image.Rect(0, 0, m.Rect.Dx(), m.Rect.Dy()), ratio)
	for y := range m.Rect.Dy() {
		row := m.Pix[y*m.Stride:]
		for x := range m.Rect.Dx() {
			out.Y[y*out.YStride+x] = 255 - row[4*x]
			if x%step == 0 && y%step == 0 {
				i := y/step*out.CStride + x/step
				out.Cb[i], out.Cr[i] = 255-row[4*x+1], 255-row[4*x+2]
			}
		}
	}
	return out
}

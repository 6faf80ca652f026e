package decode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"

	"github.com/seed-436d2970/pixpro/augment"
)

// jpegMarkers is what stands before the first scan of a JPEG file.
type jpegMarkers struct {
	width, height int
	sampling      []uint8 // of each component: horizontal<<4 | vertical
	adobe         int     // where the colour transform of the Adobe marker is, 0 if there is none
}

// readJPEGMarkers walks the segments up to the first scan. Once the size is
// known, missing data is left for the decoder to find.
func readJPEGMarkers(data []byte) (jpegMarkers, error) {
	const (
		rst0, rst7, soi, eoi, sos = 0xD0, 0xD7, 0xD8, 0xD9, 0xDA
		app14, tem                = 0xEE, 0x01
	)
	var m jpegMarkers
	at := 2
	for {
		// Bytes between segments and fill bytes before a marker are skipped, as
		// libjpeg and image/jpeg do.
		for at < len(data) && data[at] != 0xFF {
			at++
		}
		for at < len(data) && data[at] == 0xFF {
			at++
		}
		if at >= len(data) {
			break
		}
		marker := data[at]
		at++
		if marker == 0 || marker == tem || rst0 <= marker && marker <= soi {
			continue
		}
		if marker == eoi || marker == sos || at+2 > len(data) {
			break
		}
		length := int(data[at])<<8 | int(data[at+1])
		if length < 2 || at+length > len(data) {
			break
		}
		body := data[at+2 : at+length]
		switch {
		case isFrame(marker):
			if len(body) < 6 || len(body) < 6+3*int(body[5]) {
				return m, errors.New("short frame segment")
			}
			m.height = int(body[1])<<8 | int(body[2])
			m.width = int(body[3])<<8 | int(body[4])
			m.sampling = m.sampling[:0]
			for i := range int(body[5]) {
				m.sampling = append(m.sampling, body[7+3*i])
			}
		case marker == app14 && len(body) >= 12 && string(body[:5]) == "Adobe":
			m.adobe = at + 2 + 11
		}
		at += length
	}
	if m.sampling == nil {
		return m, io.ErrUnexpectedEOF
	}
	return m, nil
}

// isFrame reports whether a marker starts a frame of any kind: 0xC0 to 0xCF but
// for the tables and the extension among them.
func isFrame(marker uint8) bool {
	const dht, jpg, dac = 0xC4, 0xC8, 0xCC
	return 0xC0 <= marker && marker <= 0xCF && marker != dht && marker != jpg && marker != dac
}

// decodeJPEG decodes with libjpeg-turbo if there is one, otherwise in Go.
//
// libjpeg goes on after a warning, and says only the first: bytes too many, or
// pixels made up in place of those that are missing. image/jpeg stops at what is
// missing, so it decides about such a file.
func (d *Decoder) decodeJPEG(data []byte, dst *augment.Image, divisor int) error {
	markers, err := readJPEGMarkers(data)
	if err != nil {
		return err
	}
	library, _ := turboJPEG()
	if library == nil || d.portable {
		return d.decodeJPEGInGo(data, dst, markers)
	}
	err = d.decodeTurbo(library, data, dst, markers, divisor)
	var warning turboWarning
	if !errors.As(err, &warning) {
		return err
	}
	if err := d.decodeJPEGInGo(data, new(augment.Image), markers); err != nil {
		return fmt.Errorf("%w: %w", warning, err)
	}
	return nil
}

// decodeTurbo decodes with libjpeg-turbo. Of four components, Pillow takes every
// file to be inverted, as Adobe's are.
func (d *Decoder) decodeTurbo(library *turboLibrary, data []byte, dst *augment.Image, m jpegMarkers, divisor int) error {
	resize(dst, ceil(m.width, divisor), ceil(m.height, divisor))
	if len(m.sampling) != 4 {
		return library.decompress(data, dst.Pix, turboRGB, m.width, m.height, divisor)
	}
	n := 4 * dst.Width * dst.Height
	if cap(d.cmyk) < n {
		d.cmyk = make([]uint8, n)
	}
	d.cmyk = d.cmyk[:n]
	err := library.decompress(data, d.cmyk, turboCMYK, m.width, m.height, divisor)
	for i, out := 0, dst.Pix; i+4 <= n && len(out) >= 3; i, out = i+4, out[3:] {
		light := d.cmyk[i+3]
		for c, v := range d.cmyk[i : i+3] {
			out[c] = light - product(255-v, light)
		}
	}
	return err
}

// decodeJPEGInGo decodes with image/jpeg, and converts colours as libjpeg does.
func (d *Decoder) decodeJPEGInGo(data []byte, dst *augment.Image, markers jpegMarkers) error {
	r := io.Reader(bytes.NewReader(data))
	if len(markers.sampling) == 4 {
		r = withoutTransform(data, markers)
	}
	m, err := guard(jpeg.Decode, r)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *image.YCbCr:
		return d.copyYCbCr(dst, m)
	case *image.CMYK:
		return d.copyCMYK(dst, m, data, markers)
	default: // grey, or a file that stores RGB
		return copyRaster(dst, m)
	}
}

// withoutTransform presents a file of four components as one whose Adobe marker
// says that they are stored as they are: image/jpeg asks for such a marker, and
// its own conversion of YCCK would not be libjpeg's.
func withoutTransform(data []byte, m jpegMarkers) io.Reader {
	before, change, after := data[:2], []byte("\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"), data[2:]
	if m.adobe > 0 {
		before, change, after = data[:m.adobe], []byte{0}, data[m.adobe+1:]
	}
	return io.MultiReader(bytes.NewReader(before), bytes.NewReader(change), bytes.NewReader(after))
}

// copyCMYK converts four components, which image/jpeg has inverted: Pillow, too,
// takes every such file to be inverted, as Adobe's are.
func (d *Decoder) copyCMYK(dst *augment.Image, m *image.CMYK, data []byte, markers jpegMarkers) error {
	if markers.adobe > 0 && data[markers.adobe] != 0 {
		// YCCK: what libjpeg makes of it is CMY = 255 - RGB, inverted again RGB.
		if err := d.copyYCbCr(dst, storedYCbCr(m, markers.sampling)); err != nil {
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
func storedYCbCr(m *image.CMYK, sampling []uint8) *image.YCbCr {
	ratio, step := image.YCbCrSubsampleRatio444, 1
	if sampling[0] != sampling[1] {
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

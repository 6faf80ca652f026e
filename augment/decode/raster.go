package decode

import (
	"fmt"
	"image"
	"image/color"

	"github.com/seed-436d2970/pixpro/augment"
)

// copyRaster copies an image that holds its samples as stored: colours without
// their alpha, of 16-bit samples the high byte, which comes first.
func copyRaster(dst *augment.Image, m image.Image) error {
	switch m := m.(type) {
	case *image.Gray:
		copySamples(dst, m.Rect, m.Pix, m.Stride, 1, 0, 0, 0)
	case *image.Gray16:
		copySamples(dst, m.Rect, m.Pix, m.Stride, 2, 0, 0, 0)
	case *image.RGBA: // opaque, or it would not be exact
		copySamples(dst, m.Rect, m.Pix, m.Stride, 4, 0, 1, 2)
	case *image.NRGBA:
		copySamples(dst, m.Rect, m.Pix, m.Stride, 4, 0, 1, 2)
	case *image.RGBA64:
		copySamples(dst, m.Rect, m.Pix, m.Stride, 8, 0, 2, 4)
	case *image.NRGBA64:
		copySamples(dst, m.Rect, m.Pix, m.Stride, 8, 0, 2, 4)
	case *image.Paletted:
		resize(dst, m.Rect.Dx(), m.Rect.Dy())
		colours := paletteColours(m.Palette)
		drawIndexes(dst, m, &colours)
	default:
		return fmt.Errorf("pixels of type %T are not supported", m)
	}
	return nil
}

// copySamples copies the bytes r, g and b of each pixel of so many bytes.
func copySamples(dst *augment.Image, bounds image.Rectangle, pix []uint8, stride, bytes, r, g, b int) {
	resize(dst, bounds.Dx(), bounds.Dy())
	out := dst.Pix
	for y := range dst.Height {
		row := pix[y*stride:][:bytes*dst.Width]
		for len(row) > 0 {
			out[0], out[1], out[2] = row[r], row[g], row[b]
			out, row = out[3:], row[bytes:]
		}
	}
}

// paletteColours returns the colours of all indexes; those beyond the palette
// are black.
func paletteColours(p color.Palette) (colours [256][3]uint8) {
	for i, c := range p[:min(len(p), len(colours))] {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		colours[i] = [3]uint8{n.R, n.G, n.B}
	}
	return colours
}

// drawIndexes draws a frame at its place in dst.
func drawIndexes(dst *augment.Image, m *image.Paletted, colours *[256][3]uint8) {
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		out := dst.Pix[3*(y*dst.Width+m.Rect.Min.X):][:3*m.Rect.Dx()]
		for x, i := range m.Pix[(y-m.Rect.Min.Y)*m.Stride:][:m.Rect.Dx()] {
			copy(out[3*x:], colours[i][:])
		}
	}
}

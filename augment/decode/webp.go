package decode

import (
	"bytes"
	"image"

	"golang.org/x/image/webp"

	"github.com/seed-436d2970/pixpro/augment"
)

// decodeWebP keeps the samples of lossless files and converts those of lossy
// ones as libwebp does; image.YCbCr alone would take them for JPEG's colours.
func (d *Decoder) decodeWebP(data []byte, dst *augment.Image) error {
	m, err := guard(webp.Decode, bytes.NewReader(data))
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *image.YCbCr:
		d.copyVideo(dst, m)
	case *image.NYCbCrA:
		d.copyVideo(dst, &m.YCbCr)
	default:
		return copyRaster(dst, m)
	}
	return nil
}

// copyVideo converts 4:2:0 planes of video range (luma 16 to 235, BT.601).
func (d *Decoder) copyVideo(dst *augment.Image, m *image.YCbCr) {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	resize(dst, width, height)
	chromaWidth, chromaHeight := (width+1)/2, (height+1)/2
	for y := range height {
		// The chroma row that the luma row lies in, and the one next to it.
		near, other := y/2, min(max(y/2+2*(y%2)-1, 0), chromaHeight-1)
		var rows [2][]uint8
		for i, plane := range [2][]uint8{m.Cb, m.Cr} {
			if cap(d.chroma[i]) < 2*chromaWidth {
				d.chroma[i] = make([]uint8, 2*chromaWidth)
			}
			rows[i] = d.chroma[i][:2*chromaWidth]
			upsampleDiagonal(rows[i], plane[near*m.CStride:][:chromaWidth], plane[other*m.CStride:][:chromaWidth])
		}
		convertVideoRow(dst.Pix[3*y*width:][:3*width], m.Y[y*m.YStride:][:width], rows[0], rows[1])
	}
}

// upsampleDiagonal weighs the four samples around 9, 3, 3 and 1 to 16 in two
// steps that round as libwebp does.
func upsampleDiagonal(out, near, other []uint8) {
	other = other[:len(near)]
	last := len(near) - 1
	edge := func(i int) uint8 { return uint8((3*uint32(near[i]) + uint32(other[i]) + 2) >> 2) }
	out[0], out[2*last+1] = edge(0), edge(last)
	for i := range last {
		a, b := uint32(near[i]), uint32(near[i+1])
		c, d := uint32(other[i]), uint32(other[i+1])
		sum := a + b + c + d + 8
		out[2*i+1] = uint8((a + (sum+2*(b+c))>>3) >> 1)
		out[2*i+2] = uint8((b + (sum+2*(a+d))>>3) >> 1)
	}
}

// convertVideoRow writes interleaved RGB with libwebp's matrix: coefficients
// have 14 fractional bits, of which products keep 6.
func convertVideoRow(out, luma, cb, cr []uint8) {
	cb, cr = cb[:len(luma)], cr[:len(luma)]
	for x, l := range luma {
		y, u, v := 19077*int32(l)>>8, int32(cb[x]), int32(cr[x])
		rgb := out[3*x:][:3]
		rgb[0] = clamp((y + 26149*v>>8 - 14234) >> 6)
		rgb[1] = clamp((y - 6419*u>>8 - 13320*v>>8 + 8708) >> 6)
		rgb[2] = clamp((y + 33050*u>>8 - 17685) >> 6)
	}
}

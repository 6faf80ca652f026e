package decode

import (
	"fmt"
	"image"

	"github.com/seed-436d2970/pixpro/augment"
)

// copyYCbCr converts the planes of a JPEG file as libjpeg does: "fancy" chroma
// upsampling, then JFIF's matrix in 16-bit fixed point.
func (d *Decoder) copyYCbCr(dst *augment.Image, m *image.YCbCr) error {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	up, err := newUpsampler(m.SubsampleRatio, width, height)
	if err != nil {
		return err
	}
	resize(dst, width, height)
	for y := range height {
		cb := up.row(&d.chroma[0], m.Cb, m.CStride, y)
		cr := up.row(&d.chroma[1], m.Cr, m.CStride, y)
		convertRow(dst.Pix[3*y*width:][:3*width], m.Y[y*m.YStride:][:width], cb, cr)
	}
	return nil
}

// upsampler makes chroma rows of full width. width and height are those of the
// chroma plane without the padding to whole blocks, which must not be seen.
type upsampler struct {
	width, height int
	x, y          int // how many luma samples there are for one of chroma
}

func newUpsampler(ratio image.YCbCrSubsampleRatio, width, height int) (upsampler, error) {
	var u upsampler
	switch ratio {
	case image.YCbCrSubsampleRatio444:
		u.x, u.y = 1, 1
	case image.YCbCrSubsampleRatio440:
		u.x, u.y = 1, 2
	case image.YCbCrSubsampleRatio422:
		u.x, u.y = 2, 1
	case image.YCbCrSubsampleRatio420:
		u.x, u.y = 2, 2
	case image.YCbCrSubsampleRatio411:
		u.x, u.y = 4, 1
	case image.YCbCrSubsampleRatio410:
		u.x, u.y = 4, 2
	default:
		return u, fmt.Errorf("chroma subsampling %v is not supported", ratio)
	}
	u.width, u.height = (width+u.x-1)/u.x, (height+u.y-1)/u.y
	return u, nil
}

// row returns chroma row y of the image, at least as long as the image is wide.
// buf is working memory.
func (u *upsampler) row(buf *[]uint8, plane []uint8, stride, y int) []uint8 {
	line := func(cy int) []uint8 {
		cy = min(max(cy, 0), u.height-1)
		return plane[cy*stride:][:u.width]
	}
	if n := u.x * u.width; cap(*buf) < n {
		*buf = make([]uint8, n)
	}
	out := (*buf)[:u.x*u.width]
	cy := y / u.y
	near := line(cy)
	// The chroma row at the other side of the luma row.
	other := line(cy + 2*(y%2) - 1)

	switch {
	case u.x == 1 && u.y == 1:
		return near
	case u.x == 1:
		upsampleDown(out, near, other, y%2)
	case u.x == 2 && u.width <= 2 || u.x == 4:
		for i := range out { // libjpeg is not fancy about these
			out[i] = near[i/u.x]
		}
	case u.y == 1:
		upsampleAcross(out, near)
	default:
		upsampleBoth(out, near, other)
	}
	return out
}

// upsampleDown weighs two rows 3 to 1, rounding down in upper rows (odd = 0)
// and up in lower ones.
func upsampleDown(out, near, other []uint8, odd int) {
	other = other[:len(near)]
	for i, v := range near {
		out[i] = uint8((3*uint32(v) + uint32(other[i]) + 1 + uint32(odd)) >> 2)
	}
}

// upsampleAcross weighs neighbours 3 to 1, rounding down on their left sides
// and up on their right sides.
func upsampleAcross(out, in []uint8) {
	last := len(in) - 1
	out[0], out[2*last+1] = in[0], in[last]
	for i := range last {
		a, b := uint32(in[i]), uint32(in[i+1])
		out[2*i+1] = uint8((3*a + b + 2) >> 2)
		out[2*i+2] = uint8((3*b + a + 1) >> 2)
	}
}

// upsampleBoth weighs 3 to 1 both ways, rounding once.
func upsampleBoth(out, near, other []uint8) {
	other = other[:len(near)]
	last := len(near) - 1
	sum := func(i int) uint32 { return 3*uint32(near[i]) + uint32(other[i]) }
	a := sum(0)
	out[0] = uint8((4*a + 8) >> 4)
	for i := range last {
		b := sum(i + 1)
		out[2*i+1] = uint8((3*a + b + 7) >> 4)
		out[2*i+2] = uint8((3*b + a + 8) >> 4)
		a = b
	}
	out[2*last+1] = uint8((4*a + 7) >> 4)
}

// chromaTerms are the products of JFIF's conversion for each chroma value:
//
//	R = Y + 1.402 Cr'   G = Y - 0.344136 Cb' - 0.714136 Cr'   B = Y + 1.772 Cb'
//
// with Cb' = Cb - 128 and Cr' = Cr - 128. Those of red and blue are rounded,
// those of green have 16 fractional bits, with the rounding in greenCb.
var chromaTerms = func() (t struct{ red, blue, greenCb, greenCr [256]int32 }) {
	const half = 1 << 15
	for i := range t.red {
		x := int32(i) - 128
		t.red[i] = (91881*x + half) >> 16
		t.blue[i] = (116130*x + half) >> 16
		t.greenCb[i] = -22554*x + half
		t.greenCr[i] = -46802 * x
	}
	return t
}()

// convertRow writes interleaved RGB.
func convertRow(out, luma, cb, cr []uint8) {
	cb, cr = cb[:len(luma)], cr[:len(luma)]
	for x, l := range luma {
		y, u, v := int32(l), cb[x], cr[x]
		rgb := out[3*x:][:3]
		rgb[0] = clamp(y + chromaTerms.red[v])
		rgb[1] = clamp(y + (chromaTerms.greenCb[u]+chromaTerms.greenCr[v])>>16)
		rgb[2] = clamp(y + chromaTerms.blue[u])
	}
}

func clamp(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

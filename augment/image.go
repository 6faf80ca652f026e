package augment

import (
	"fmt"
	"image"
)

// Image is a decoded picture: Height x Width x 3, interleaved RGB without row
// padding.
type Image struct {
	Width, Height int
	Pix           []uint8 // len 3*Width*Height
}

// Planes is a view: 3 x Height x Width, the R plane, then G, then B. The
// operations on it work in place and panic if Pix has not the length that
// Width and Height ask for.
type Planes struct {
	Width, Height int
	Pix           []uint8 // len 3*Width*Height
}

// NewPlanes returns black planes of the given size in pixels.
func NewPlanes(width, height int) Planes {
	return Planes{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
}

// Rect is a crop of an image, in pixels.
type Rect struct {
	Top    int `json:"top"`
	Left   int `json:"left"`
	Height int `json:"height"`
	Width  int `json:"width"`
}

// Scratch is working memory, reused from view to view. The zero value is
// ready. It belongs to one goroutine at a time.
type Scratch struct {
	resize resizeScratch
	blur   blurScratch
}

func (m Image) check() {
	if m.Width < 1 || m.Height < 1 || len(m.Pix) != 3*m.Width*m.Height {
		panic(fmt.Sprintf("augment: image of %d x %d pixels with %d bytes", m.Width, m.Height, len(m.Pix)))
	}
}

func (p Planes) check() {
	if p.Width < 1 || p.Height < 1 || len(p.Pix) != 3*p.Width*p.Height {
		panic(fmt.Sprintf("augment: planes of %d x %d pixels with %d bytes", p.Width, p.Height, len(p.Pix)))
	}
}

// RGBA copies the picture, opaque, into the form that image encoders and drawing
// take fastest. It panics if Pix has not the length that Width and Height ask for.
func (m Image) RGBA() *image.RGBA {
	m.check()
	out := image.NewRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i := range m.Width * m.Height {
		from, to := m.Pix[3*i:][:3], out.Pix[4*i:][:4]
		to[0], to[1], to[2], to[3] = from[0], from[1], from[2], 0xFF
	}
	return out
}

// RGBA copies the view, opaque, into the form that image encoders and drawing
// take fastest.
func (p Planes) RGBA() *image.RGBA {
	r, g, b := p.rgb()
	out := image.NewRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i := range r {
		to := out.Pix[4*i:][:4]
		to[0], to[1], to[2], to[3] = r[i], g[i], b[i], 0xFF
	}
	return out
}

// rgb returns the three planes, all of the same length.
func (p Planes) rgb() (r, g, b []uint8) {
	p.check()
	n := p.Width * p.Height
	return p.Pix[:n:n], p.Pix[n : 2*n : 2*n], p.Pix[2*n : 3*n : 3*n]
}

// grow returns a slice of n elements of unknown content, reusing buf's memory
// where it is large enough.
func grow[T any](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n)
	}
	return buf[:n]
}

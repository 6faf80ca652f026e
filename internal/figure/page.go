package figure

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// point is a place on a page in pixels; pixel (0, 0) spans 0 to 1.
type point struct{ x, y float64 }

// page is a picture being drawn.
type page struct {
	img  *image.RGBA
	fill vector.Rasterizer
}

func newPage(width, height int) *page {
	p := &page{img: image.NewRGBA(image.Rect(0, 0, width, height))}
	draw.Draw(p.img, p.img.Rect, image.White, image.Point{}, draw.Src)
	return p
}

// polygon fills the area inside the corners with anti-aliased edges.
func (p *page) polygon(c color.Color, corners ...point) {
	lo, hi := corners[0], corners[0]
	for _, q := range corners {
		lo = point{min(lo.x, q.x), min(lo.y, q.y)}
		hi = point{max(hi.x, q.x), max(hi.y, q.y)}
	}
	// The rasteriser's work grows with its area: no more than the polygon.
	area := image.Rect(int(math.Floor(lo.x)), int(math.Floor(lo.y)), int(math.Ceil(hi.x)), int(math.Ceil(hi.y)))
	area = area.Intersect(p.img.Rect)
	if area.Empty() {
		return
	}
	p.fill.Reset(area.Dx(), area.Dy())
	for i, q := range corners {
		x, y := float32(q.x-float64(area.Min.X)), float32(q.y-float64(area.Min.Y))
		if i == 0 {
			p.fill.MoveTo(x, y)
		} else {
			p.fill.LineTo(x, y)
		}
	}
	p.fill.ClosePath()
	p.fill.Draw(p.img, area, image.NewUniform(c), image.Point{})
}

// line draws a line of the given width from a to b.
func (p *page) line(c color.Color, a, b point, width float64) {
	length := math.Hypot(b.x-a.x, b.y-a.y)
	if length == 0 {
		return
	}
	nx, ny := (b.y-a.y)/length*width/2, (a.x-b.x)/length*width/2
	p.polygon(c, point{a.x + nx, a.y + ny}, point{b.x + nx, b.y + ny}, point{b.x - nx, b.y - ny}, point{a.x - nx, a.y - ny})
}

func (p *page) disc(c color.Color, centre point, radius float64) {
	var corners [40]point // at the radii used, not to be told from a circle
	for i := range corners {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(len(corners)))
		corners[i] = point{centre.x + radius*cos, centre.y + radius*sin}
	}
	p.polygon(c, corners[:]...)
}

func (p *page) square(c color.Color, centre point, half float64) {
	p.rect(c, box{centre.x - half, centre.y - half, 2 * half, 2 * half})
}

func (p *page) rect(c color.Color, b box) {
	p.polygon(c, point{b.x, b.y}, point{b.x + b.w, b.y}, point{b.x + b.w, b.y + b.h}, point{b.x, b.y + b.h})
}

// frame draws the outline of the box, half of its width to either side.
func (p *page) frame(c color.Color, b box, width float64) {
	r := width / 2
	p.rect(c, box{b.x - r, b.y - r, b.w + width, width})
	p.rect(c, box{b.x - r, b.y + b.h - r, b.w + width, width})
	p.rect(c, box{b.x - r, b.y + r, width, b.h - width})
	p.rect(c, box{b.x + b.w - r, b.y + r, width, b.h - width})
}

// text writes s from x on the baseline y and returns where it ends.
func (p *page) text(face font.Face, c color.Color, x, y float64, s string) float64 {
	d := font.Drawer{Dst: p.img, Src: image.NewUniform(c), Face: face, Dot: fixed.Point26_6{
		X: fixed.Int26_6(x * 64), Y: fixed.Int26_6(y * 64),
	}}
	d.DrawString(s)
	return float64(d.Dot.X) / 64
}

// faces are the two weights of text. They are not for concurrent use.
type faces struct{ regular, bold font.Face }

func newFaces(size float64) (f faces, err error) {
	for _, face := range []struct {
		to  *font.Face
		ttf []byte
	}{{&f.regular, goregular.TTF}, {&f.bold, gobold.TTF}} {
		parsed, err := opentype.Parse(face.ttf)
		if err != nil {
			return f, fmt.Errorf("figure: font: %w", err)
		}
		// At 72 dots an inch a point is a pixel.
		options := &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull}
		if *face.to, err = opentype.NewFace(parsed, options); err != nil {
			return f, fmt.Errorf("figure: font: %w", err)
		}
	}
	return f, nil
}

func textWidth(face font.Face, s string) float64 {
	return float64(font.MeasureString(face, s)) / 64
}

// wrap joins the items with commas into lines no wider than width, except for
// an item that is wider alone.
func wrap(face font.Face, items []string, width float64) []string {
	var lines []string
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		if n := len(lines); n > 0 && textWidth(face, lines[n-1]+" "+item) <= width {
			lines[n-1] += " " + item
		} else {
			lines = append(lines, item)
		}
	}
	return lines
}

// shorten cuts the front of s until it fits: the end of a path says more.
func shorten(face font.Face, s string, width float64) string {
	s = strings.ToValidUTF8(s, "�")
	if textWidth(face, s) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && textWidth(face, "…"+string(runes)) > width {
		runes = runes[1:]
	}
	return "…" + string(runes)
}

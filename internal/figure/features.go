package figure

import (
	"errors"
	"fmt"
	"image"
	"image/color"

	xdraw "golang.org/x/image/draw"
	"gonum.org/v1/plot/palette/moreland"

	"github.com/seed-436d2970/pixpro/augment"
)

// FeatureRow is an image with what encoders make of it.
type FeatureRow struct {
	Source augment.Image
	Title  string
	// At is the pixel (x, y) whose cell is compared with all others; nil where
	// no similarities are drawn.
	At   *[2]int
	Maps []FeatureMap // one an encoder
}

// FeatureMap is an encoder's map of an image, ready to draw.
type FeatureMap struct {
	Rows, Cols int
	Colours    []float64 // Rows x Cols x 3, red, green and blue, each 0 to 1
	Similarity []float64 // Rows x Cols, -1 to 1; nil without At
}

// Layout of Features in pixels.
const (
	featureSide = 240
	featureGap  = 16
	scaleHeight = 14
)

// maxPanels bounds the size of a page.
const maxPanels = 1000

// Features draws a contact sheet: a row an image, and beside it, for each of
// the named encoders, its map's colours and the similarity of all cells with
// one. Cells are drawn as they are, without interpolation.
func Features(rows []FeatureRow, encoders []string) (*image.RGBA, error) {
	if len(rows) == 0 || len(encoders) == 0 {
		return nil, errors.New("figure: no features to draw")
	}
	if len(rows)*len(encoders) > maxPanels {
		return nil, fmt.Errorf("figure: %d images by %d encoders: at most %d together", len(rows), len(encoders), maxPanels)
	}
	heat := rows[0].At != nil
	for _, r := range rows {
		if err := r.check(len(encoders), heat); err != nil {
			return nil, fmt.Errorf("figure: %s: %w", r.Title, err)
		}
	}
	text, err := newFaces(textSize)
	if err != nil {
		return nil, err
	}
	panels := 1
	if heat {
		panels = 2
	}
	const column = featureSide + featureGap
	top := margin + 2*lineHeight
	rowHeight := featureSide + lineHeight + featureGap
	width := 2*margin + column*(1+panels*len(encoders)) - featureGap
	height := top + len(rows)*rowHeight + margin
	if heat {
		height += lineHeight + scaleHeight
	}
	p := newPage(width, height)
	colours := moreland.Kindlmann()
	colours.SetMin(0)
	colours.SetMax(1)

	for e, name := range encoders {
		x := float64(margin + column*(1+panels*e))
		p.text(text.bold, ink, x, margin+textSize/2, shorten(text.bold, name, float64(panels*column-featureGap)))
		p.text(text.regular, ink, x, margin+textSize/2+lineHeight, "principal components")
		if heat {
			p.text(text.regular, ink, x+column, margin+textSize/2+lineHeight, "similarity to the mark")
		}
	}
	for i, r := range rows {
		y := float64(top + i*rowHeight)
		picture := box{margin, y, featureSide, featureSide}.fit(r.Source.Width, r.Source.Height)
		place(p, picture, r.Source.RGBA())
		for e, m := range r.Maps {
			x := float64(margin + column*(1+panels*e))
			b := box{x, y, featureSide, featureSide}.fit(r.Source.Width, r.Source.Height)
			placeCells(p, b, m.Rows, m.Cols, func(cell int) color.Color {
				return color.RGBA{level(m.Colours[3*cell]), level(m.Colours[3*cell+1]), level(m.Colours[3*cell+2]), 255}
			})
			if !heat {
				continue
			}
			b.x += column
			var failed error
			placeCells(p, b, m.Rows, m.Cols, func(cell int) color.Color {
				c, err := colours.At(min(max(m.Similarity[cell], 0), 1))
				if err != nil {
					failed = err
					return color.Black
				}
				return c
			})
			if failed != nil {
				return nil, fmt.Errorf("figure: %s: similarity: %w", r.Title, failed)
			}
			r.mark(p, b)
		}
		if heat {
			r.mark(p, picture)
		}
		p.text(text.regular, ink, margin, y+featureSide+lineHeight-4, shorten(text.regular, r.Title, featureSide))
	}
	if heat {
		y := float64(height - margin - scaleHeight)
		x := p.text(text.regular, ink, margin, y+scaleHeight-2, "cosine 0 or less ")
		scale := box{x, y, featureSide, scaleHeight}
		const steps = 60
		for i := range steps {
			c, err := colours.At((float64(i) + 0.5) / steps)
			if err != nil {
				return nil, fmt.Errorf("figure: %w", err)
			}
			p.rect(c, box{x + scale.w*float64(i)/steps, y, scale.w / steps, scale.h})
		}
		p.frame(ink, scale, 1)
		p.text(text.regular, ink, x+scale.w, y+scaleHeight-2, " 1")
	}
	return p.img, nil
}

func (r *FeatureRow) check(encoders int, heat bool) error {
	if !holds(r.Source.Width, r.Source.Height, len(r.Source.Pix)) {
		return fmt.Errorf("image of %d x %d pixels has %d bytes, must be 3 a pixel", r.Source.Width, r.Source.Height, len(r.Source.Pix))
	}
	if len(r.Maps) != encoders || (r.At != nil) != heat {
		return fmt.Errorf("%d maps of %d encoders; either all rows have a mark or none", len(r.Maps), encoders)
	}
	for _, m := range r.Maps {
		cells := m.Rows * m.Cols
		if m.Rows < 1 || m.Cols < 1 || len(m.Colours) != 3*cells || heat && len(m.Similarity) != cells {
			return fmt.Errorf("a map of %d x %d cells has %d colours and %d similarities", m.Rows, m.Cols, len(m.Colours)/3, len(m.Similarity))
		}
	}
	if heat && (r.At[0] < 0 || r.At[1] < 0 || r.At[0] >= r.Source.Width || r.At[1] >= r.Source.Height) {
		return fmt.Errorf("pixel %d,%d is not in the image of %d x %d pixels", r.At[0], r.At[1], r.Source.Width, r.Source.Height)
	}
	return nil
}

// mark marks the pixel in the picture drawn in b.
func (r *FeatureRow) mark(p *page, b box) {
	at := point{b.x + (float64(r.At[0])+0.5)/float64(r.Source.Width)*b.w, b.y + (float64(r.At[1])+0.5)/float64(r.Source.Height)*b.h}
	p.disc(color.White, at, 6)
	p.disc(alarm, at, 4)
}

// placeCells draws a picture of one colour a cell into the box.
func placeCells(p *page, b box, rows, cols int, colour func(cell int) color.Color) {
	m := image.NewRGBA(image.Rect(0, 0, cols, rows))
	for i := range rows * cols {
		m.Set(i%cols, i/cols, colour(i))
	}
	dst := image.Rect(int(b.x+0.5), int(b.y+0.5), int(b.x+b.w+0.5), int(b.y+b.h+0.5))
	xdraw.NearestNeighbor.Scale(p.img, dst, m, m.Rect, xdraw.Src, nil)
}

// level is a colour's part from 0 to 1 as a byte.
func level(v float64) uint8 { return uint8(255*min(max(v, 0), 1) + 0.5) }

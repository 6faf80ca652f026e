package figure

import (
	"errors"
	"fmt"
	"image"
	"image/color"

	xdraw "golang.org/x/image/draw"

	"github.com/seed-436d2970/pixpro/augment"
)

// Pair is two views of an image, with all that was drawn to make them.
type Pair struct {
	Source augment.Image
	Views  [2]augment.Planes
	Params [2]augment.ViewParams
	Coords [2]augment.Coord
	Title  string // usually the key; may be empty
}

// PairsOptions says which cells the views are cut into, and which match.
type PairsOptions struct {
	Rows, Cols int     // cells of a view; 0 = 7
	Threshold  float64 // see PositiveCells; 0 = 0.7
}

func (o *PairsOptions) setDefaults() {
	if o.Rows == 0 {
		o.Rows = 7
	}
	if o.Cols == 0 {
		o.Cols = 7
	}
	if o.Threshold == 0 {
		o.Threshold = 0.7
	}
}

// maxCells bounds a side of the grid: each of its cells is compared with each.
const maxCells = 64

// Validate reports the first option that cannot be used.
func (o PairsOptions) Validate() error {
	o.setDefaults()
	if o.Rows < 1 || o.Cols < 1 || o.Rows > maxCells || o.Cols > maxCells {
		return fmt.Errorf("figure: a grid of %d x %d cells, may be 1 to %d each way", o.Rows, o.Cols, maxCells)
	}
	if !(o.Threshold > 0) {
		return fmt.Errorf("figure: Threshold is %g, must be above 0", o.Threshold)
	}
	return nil
}

// Layout in pixels. The page is 1520 wide, 5 inches in print at 300 dots an
// inch; the views' 420 divide into 6, 7 or 14 cells without a remainder.
const (
	viewSide    = 420
	sourceWidth = 500
	sourceGap   = 36 // from the source to view 1
	joinGap     = 88 // from view 1 to view 2: room to follow the lines
	margin      = 24
	pageWidth   = margin + sourceWidth + sourceGap + viewSide + joinGap + viewSide + 2*frameWidth + margin
	textSize    = 15
	lineHeight  = 20
	pairGap     = 30 // between a pair's caption and the next pair
	frameWidth  = 4
	maxJoins    = len(joinColours)
)

// The colours are Okabe and Ito's, which the colour-blind can tell apart: two
// for the views, the others for joined cells.
var (
	viewColours = [2]color.Color{color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}}
	joinColours = [6]color.Color{
		color.RGBA{0xf0, 0xe4, 0x42, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff},
		color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff},
	}
	ink   = color.RGBA{0x20, 0x20, 0x20, 0xff}
	alarm = color.RGBA{0xb0, 0x10, 0x10, 0xff}
	mesh  = color.NRGBA{0xff, 0xff, 0xff, 0x70}
)

// box is a picture's place on the page.
type box struct{ x, y, w, h float64 }

// fit is the largest box of the given proportions, centred in b.
func (b box) fit(width, height int) box {
	scale := min(b.w/float64(width), b.h/float64(height))
	w, h := scale*float64(width), scale*float64(height)
	return box{b.x + (b.w-w)/2, b.y + (b.h-h)/2, w, h}
}

// cell is the centre of a cell of the view drawn in b.
func (b box) cell(row, col, rows, cols int) point {
	return point{b.x + (float64(col)+0.5)/float64(cols)*b.w, b.y + (float64(row)+0.5)/float64(rows)*b.h}
}

// source is where the fraction (x, y) of the image drawn in b is. Fractions
// count from the centre of the first pixel to that of the last.
func (b box) source(x, y float64, width, height int) point {
	return point{
		b.x + (x*float64(width-1)+0.5)/float64(width)*b.w,
		b.y + (y*float64(height-1)+0.5)/float64(height)*b.h,
	}
}

// Pairs draws the pairs below one another: the source image with both crops
// marked, the views with their cells, a sample of the matching cells joined
// and marked in all three (a disc for view 1's cell, a square for view 2's),
// and what was drawn at random for each view as a caption.
func Pairs(pairs []Pair, opts PairsOptions) (*image.RGBA, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	if len(pairs) == 0 {
		return nil, errors.New("figure: no pairs to draw")
	}
	text, err := newFaces(textSize)
	if err != nil {
		return nil, err
	}
	rows := make([]pairRow, len(pairs))
	height := margin + lineHeight // legend
	for i := range pairs {
		if err := pairs[i].check(); err != nil {
			return nil, fmt.Errorf("figure: pair %d (%s): %w", i, pairs[i].Title, err)
		}
		rows[i] = layOut(&pairs[i], opts, text, float64(height+lineHeight/2))
		height += rows[i].height
	}
	p := newPage(pageWidth, height+margin-pairGap/2)
	drawLegend(p, text, opts)
	for i := range rows {
		rows[i].draw(p, text, opts)
	}
	return p.img, nil
}

// check makes sure that no picture claims more pixels than it has, and that
// the views come from inside the source image.
func (p *Pair) check() error {
	if s := p.Source; !holds(s.Width, s.Height, len(s.Pix)) {
		return fmt.Errorf("source image of %d x %d pixels has %d bytes, must be 3 a pixel", s.Width, s.Height, len(s.Pix))
	}
	for v, view := range p.Views {
		if !holds(view.Width, view.Height, len(view.Pix)) {
			return fmt.Errorf("view %d of %d x %d pixels has %d bytes, must be 3 a pixel", v+1, view.Width, view.Height, len(view.Pix))
		}
		c := p.Params[v].Crop
		if c.Left < 0 || c.Top < 0 || c.Width < 1 || c.Height < 1 || c.Width > p.Source.Width-c.Left || c.Height > p.Source.Height-c.Top {
			return fmt.Errorf("view %d: crop %+v is not within the source image of %d x %d pixels", v+1, c, p.Source.Width, p.Source.Height)
		}
		for _, x := range p.Coords[v] {
			if !(x >= 0 && x <= 1) {
				return fmt.Errorf("view %d: coordinates %v are not fractions of the image", v+1, p.Coords[v])
			}
		}
	}
	return nil
}

// holds reports whether bytes are exactly width x height RGB pixels, of at
// least one; it divides, since a product could overflow.
func holds(width, height, bytes int) bool {
	return width > 0 && height > 0 && bytes%3 == 0 && bytes/3%width == 0 && bytes/3/width == height
}

func drawLegend(p *page, text faces, opts PairsOptions) {
	y := float64(margin + textSize/2)
	x := p.text(text.regular, ink, margin, y,
		fmt.Sprintf("Views as %d x %d cells. Joined: cells of view 1 (", opts.Rows, opts.Cols))
	mark(p, 0, color.Gray{0x80}, point{x + 8, y - 5}, 1)
	x = p.text(text.regular, ink, x+16, y, ") and of view 2 (")
	mark(p, 1, color.Gray{0x80}, point{x + 8, y - 5}, 1)
	p.text(text.regular, ink, x+16, y,
		fmt.Sprintf(") nearer than %g of the larger cell's diagonal, a sample. Colour operations in the order applied.", opts.Threshold))
}

// pairRow is a pair with its place on the page.
type pairRow struct {
	*Pair
	source   box
	views    [2]box
	positive int // matching pairs of cells
	joined   []CellPair
	captions [2][]string
	height   int // with the gap to the next row
}

func layOut(pair *Pair, opts PairsOptions, text faces, top float64) pairRow {
	r := pairRow{Pair: pair}
	r.source = box{margin, top, sourceWidth, viewSide}.fit(pair.Source.Width, pair.Source.Height)
	x := float64(margin + sourceWidth + sourceGap + frameWidth)
	lines := 2 // of the source's caption
	for v := range r.views {
		r.views[v] = box{x, top, viewSide, viewSide}.fit(pair.Views[v].Width, pair.Views[v].Height)
		x += viewSide + joinGap
		heading := textWidth(text.bold, heading(v))
		r.captions[v] = wrap(text.regular, describe(pair.Params[v]), viewSide-heading)
		lines = max(lines, len(r.captions[v]))
	}
	positive := PositiveCells(pair.Coords[0], pair.Coords[1], opts.Rows, opts.Cols, opts.Threshold)
	r.positive, r.joined = len(positive), sample(positive, maxJoins)
	r.height = viewSide + lineHeight/2 + lines*lineHeight + pairGap
	return r
}

func heading(view int) string { return fmt.Sprintf("view %d  ", view+1) }

// describe names what was drawn for a view.
func describe(p augment.ViewParams) []string {
	items := []string{fmt.Sprintf("crop %d×%d at (%d, %d)", p.Crop.Width, p.Crop.Height, p.Crop.Left, p.Crop.Top)}
	if p.Flip {
		items = append(items, "flipped")
	}
	for _, j := range p.Jitter[:min(max(p.Jitters, 0), len(p.Jitter))] {
		items = append(items, j.String())
	}
	if p.Grayscale {
		items = append(items, "grayscale")
	}
	if p.BlurSigma > 0 {
		items = append(items, fmt.Sprintf("blur σ %.2f", p.BlurSigma))
	}
	if p.Solarize {
		items = append(items, augment.Jitter{Op: augment.OpSolarize, Factor: augment.SolarizeThreshold}.String())
	}
	return items
}

func (r *pairRow) draw(p *page, text faces, opts PairsOptions) {
	place(p, r.source, r.Source.RGBA())
	width, height := r.Source.Width, r.Source.Height
	for v, b := range r.views {
		place(p, b, r.Views[v].RGBA())
		crop := r.Params[v].Crop
		sx, sy := r.source.w/float64(width), r.source.h/float64(height)
		marked := box{r.source.x + float64(crop.Left)*sx, r.source.y + float64(crop.Top)*sy, float64(crop.Width) * sx, float64(crop.Height) * sy}
		p.frame(color.White, marked, 4.5)
		p.frame(viewColours[v], marked, 2.5)

		for col := 1; col < opts.Cols; col++ {
			x := b.x + b.w*float64(col)/float64(opts.Cols)
			p.line(mesh, point{x, b.y}, point{x, b.y + b.h}, 1.2)
		}
		for row := 1; row < opts.Rows; row++ {
			y := b.y + b.h*float64(row)/float64(opts.Rows)
			p.line(mesh, point{b.x, y}, point{b.x + b.w, y}, 1.2)
		}
		p.frame(viewColours[v], box{b.x - frameWidth/2, b.y - frameWidth/2, b.w + frameWidth, b.h + frameWidth}, frameWidth)
	}
	r.drawJoins(p, opts)
	r.drawCaptions(p, text)
}

func (r *pairRow) drawJoins(p *page, opts PairsOptions) {
	ends := func(j CellPair) (a, b point) {
		return r.views[0].cell(j.RowA, j.ColA, opts.Rows, opts.Cols), r.views[1].cell(j.RowB, j.ColB, opts.Rows, opts.Cols)
	}
	// All lines first: marks must not be crossed.
	for i, j := range r.joined {
		a, b := ends(j)
		p.line(color.White, a, b, 4.5)
		p.line(joinColours[i], a, b, 2.5)
	}
	for i, j := range r.joined {
		a, b := ends(j)
		mark(p, 0, joinColours[i], a, 1)
		mark(p, 1, joinColours[i], b, 1)
		ax, ay := augment.Cell(r.Coords[0], j.RowA, j.ColA, opts.Rows, opts.Cols)
		bx, by := augment.Cell(r.Coords[1], j.RowB, j.ColB, opts.Rows, opts.Cols)
		// The two lie close together: the disc goes into the larger square.
		mark(p, 1, joinColours[i], r.source.source(bx, by, r.Source.Width, r.Source.Height), 1)
		mark(p, 0, joinColours[i], r.source.source(ax, ay, r.Source.Width, r.Source.Height), 0.7)
	}
}

// mark marks a cell of a view: a disc for the first, a square for the second.
func mark(p *page, view int, c color.Color, at point, scale float64) {
	if view == 0 {
		p.disc(color.White, at, 7.5*scale)
		p.disc(c, at, 5.5*scale)
	} else {
		p.square(color.White, at, 7*scale)
		p.square(c, at, 5*scale)
	}
}

func (r *pairRow) drawCaptions(p *page, text faces) {
	// The columns' top is where the views' would begin if they were square.
	y := r.views[0].y + r.views[0].h/2 + viewSide/2 + frameWidth + lineHeight
	p.text(text.bold, ink, margin, y, shorten(text.bold, r.Title, sourceWidth))
	size := fmt.Sprintf("%d×%d pixels, ", r.Source.Width, r.Source.Height)
	x := p.text(text.regular, ink, margin, y+lineHeight, size)
	if r.positive == 0 {
		p.text(text.bold, alarm, x, y+lineHeight, "no positive cells")
		r.drawNote(p, text)
	} else {
		p.text(text.regular, ink, x, y+lineHeight, fmt.Sprintf("%d positive pairs of cells, %d joined", r.positive, len(r.joined)))
	}
	for v, lines := range r.captions {
		x := p.text(text.bold, viewColours[v], r.viewColumn(v), y, heading(v))
		for i, line := range lines {
			p.text(text.regular, ink, x, y+float64(i*lineHeight), line)
		}
	}
}

func (r *pairRow) viewColumn(v int) float64 {
	return r.views[v].x + r.views[v].w/2 - viewSide/2
}

// drawNote says between the views why no lines join them.
func (r *pairRow) drawNote(p *page, text faces) {
	lines := []string{"no positive", "cells"}
	width := textWidth(text.bold, lines[0]) + 2*8
	x := r.viewColumn(0) + viewSide + joinGap/2 - width/2
	y := r.views[0].y + r.views[0].h/2
	plate := box{x, y - lineHeight - 6, width, 2*lineHeight + 12}
	p.rect(color.White, plate)
	p.frame(alarm, plate, 2)
	for i, line := range lines {
		indent := (width - textWidth(text.bold, line)) / 2
		p.text(text.bold, alarm, x+indent, y-5+float64(i*lineHeight), line)
	}
}

// place draws a picture into the box, to whole pixels.
func place(p *page, b box, src image.Image) {
	dst := image.Rect(int(b.x+0.5), int(b.y+0.5), int(b.x+b.w+0.5), int(b.y+b.h+0.5))
	xdraw.BiLinear.Scale(p.img, dst, src, src.Bounds(), xdraw.Src, nil)
}

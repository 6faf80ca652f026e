package augment

import "github.com/seed-436d2970/pixpro/internal/cells"

// Coord tells where a view lies in its image: x0, y0, x1, y1 are the centres of
// the crop's corner pixels as fractions of the image, x/(width-1) and
// y/(height-1). x0 belongs to the left edge of the view: a horizontal flip
// swaps x0 and x1. Along an image side of one pixel both ends are 0.
type Coord [4]float32

// Coord returns where the view lies in an image of the given size.
func (p *ViewParams) Coord(imageWidth, imageHeight int) Coord {
	x0 := fraction(p.Crop.Left, imageWidth)
	x1 := fraction(p.Crop.Left+p.Crop.Width-1, imageWidth)
	if p.Flip {
		x0, x1 = x1, x0
	}
	return Coord{
		x0, fraction(p.Crop.Top, imageHeight),
		x1, fraction(p.Crop.Top+p.Crop.Height-1, imageHeight),
	}
}

// fraction maps the pixels 0 … size-1 of a side to 0 … 1.
func fraction(pixel, size int) float32 {
	if size <= 1 {
		return 0
	}
	return float32(float64(pixel) / float64(size-1))
}

// Cell returns the centre of a cell of a rows x cols grid over a view as
// fractions of the image. Column 0 is at the left edge of the view.
func Cell(c Coord, row, col, rows, cols int) (x, y float64) {
	return cells.NewGrid(c, rows, cols).Centre(row, col)
}

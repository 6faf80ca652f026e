package augment

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestCoord(t *testing.T) {
	for _, test := range []struct {
		name          string
		width, height int
		crop          Rect
		flip          bool
		want          Coord
	}{
		{"whole image", 101, 51, Rect{Width: 101, Height: 51}, false, Coord{0, 0, 1, 1}},
		{"whole image flipped", 101, 51, Rect{Width: 101, Height: 51}, true, Coord{1, 0, 0, 1}},
		{"inside", 101, 51, Rect{Left: 25, Top: 10, Width: 51, Height: 31}, false, Coord{0.25, 0.2, 0.75, 0.8}},
		{"inside flipped", 101, 51, Rect{Left: 25, Top: 10, Width: 51, Height: 31}, true, Coord{0.75, 0.2, 0.25, 0.8}},
		{"one pixel of many", 101, 51, Rect{Left: 50, Top: 50, Width: 1, Height: 1}, false, Coord{0.5, 1, 0.5, 1}},
		{"image of one pixel", 1, 1, Rect{Width: 1, Height: 1}, true, Coord{}},
		{"image of one column", 1, 11, Rect{Top: 5, Width: 1, Height: 6}, false, Coord{0, 0.5, 0, 1}},
		{"image of one row", 11, 1, Rect{Left: 5, Width: 6, Height: 1}, true, Coord{1, 0, 0.5, 0}},
		{"image of two pixels", 2, 2, Rect{Left: 1, Width: 1, Height: 2}, false, Coord{1, 0, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := ViewParams{Crop: test.crop, Flip: test.flip}
			if err := p.Validate(test.width, test.height); err != nil {
				t.Fatal(err)
			}
			if got := p.Coord(test.width, test.height); got != test.want {
				t.Errorf("coord is %v, want %v", got, test.want)
			}
		})
	}
}

func TestCell(t *testing.T) {
	for _, test := range []struct {
		name                 string
		coord                Coord
		row, col, rows, cols int
		x, y                 float64
	}{
		{"the only cell", Coord{0.25, 0, 0.75, 1}, 0, 0, 1, 1, 0.5, 0.5},
		{"upper left", Coord{0, 0, 1, 1}, 0, 0, 2, 4, 0.125, 0.25},
		{"lower right", Coord{0, 0, 1, 1}, 1, 3, 2, 4, 0.875, 0.75},
		{"flipped", Coord{1, 0, 0, 1}, 0, 0, 2, 4, 0.875, 0.25},
		{"one pixel", Coord{0.5, 0, 0.5, 0}, 3, 2, 7, 7, 0.5, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, y := Cell(test.coord, test.row, test.col, test.rows, test.cols)
			if x != test.x || y != test.y {
				t.Errorf("centre is (%v, %v), want (%v, %v)", x, y, test.x, test.y)
			}
		})
	}
}

// TestMarkedPixel follows a white pixel of a black image through crop, resize
// and flip, and looks whether it arrives in the cell whose centre is nearest
// by the coordinates.
func TestMarkedPixel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 12))
	var scratch Scratch
	for range 2000 {
		width, height := 20+rng.IntN(60), 20+rng.IntN(60)
		p := ViewParams{Flip: rng.IntN(2) == 1}
		p.Crop.Width, p.Crop.Height = 8+rng.IntN(width-7), 8+rng.IntN(height-7)
		p.Crop.Left, p.Crop.Top = rng.IntN(width-p.Crop.Width+1), rng.IntN(height-p.Crop.Height+1)
		markX, markY := p.Crop.Left+rng.IntN(p.Crop.Width), p.Crop.Top+rng.IntN(p.Crop.Height)
		src := Image{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
		for c := range 3 {
			src.Pix[3*(markY*width+markX)+c] = 255
		}
		const side = 48
		view := NewPlanes(side, side)
		p.Apply(view, src, &scratch)
		viewX, viewY := centroid(t, view)

		rows, cols := 1+rng.IntN(7), 1+rng.IntN(7)
		row, col := int(viewY*float64(rows)/side), int(viewX*float64(cols)/side)
		coord := p.Coord(width, height)
		x, y := Cell(coord, row, col, rows, cols)

		// Half a cell, and what coordinates between pixel centres leave open:
		// half a pixel of the image and, at the border, one of the view.
		check := func(axis string, got float64, mark, side, cells int, from, to float32) {
			t.Helper()
			want := float64(mark) / float64(side-1)
			cell := math.Abs(float64(to)-float64(from)) / float64(cells) / 2
			pixel := 0.5 / float64(side-1)
			viewPixel := math.Abs(float64(to)-float64(from)) / 48
			if math.Abs(got-want) > cell+pixel+viewPixel {
				t.Fatalf("%s: pixel %d of %d arrives in a cell of centre %.3f, want %.3f (%+v, cell %d, %d of %d x %d)",
					axis, mark, side, got, want, p, row, col, rows, cols)
			}
		}
		check("x", x, markX, width, cols, coord[0], coord[2])
		check("y", y, markY, height, rows, coord[1], coord[3])
	}
}

// centroid returns the mean place of a view's light in pixels from its upper
// left corner.
func centroid(t *testing.T, p Planes) (x, y float64) {
	t.Helper()
	var mass, sumX, sumY float64
	for i, v := range p.Pix[:p.Width*p.Height] {
		mass += float64(v)
		sumX += float64(v) * (float64(i%p.Width) + 0.5)
		sumY += float64(v) * (float64(i/p.Width) + 0.5)
	}
	if mass == 0 {
		t.Fatal("the mark is lost")
	}
	return sumX / mass, sumY / mass
}

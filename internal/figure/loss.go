package figure

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Layout of the loss curve: a full text column of a paper at 200 dots an inch,
// the learning rate in a strip below the loss.
const (
	lossWidth  = 7 * vg.Inch
	lossHeight = 4 * vg.Inch
	rateHeight = 1.4 * vg.Inch
	lossDPI    = 200
)

// maxPoints is how many points of a curve are drawn. More could not be told
// apart at this width; a longer run is shown by the smallest and the largest
// value of each stretch of it.
const maxPoints = 4000

// Curve is a training run: Loss[i] after step Steps[i].
type Curve struct {
	Title       string
	Steps, Loss []float64
	Rate        []float64 // learning rate; drawn below if given
	// Span is the number of points that the thick line's exponential moving
	// average looks back (its weights fall by 1/e in that many); 0 = a
	// thirtieth of the run.
	Span int
}

// Loss writes the curve as a PNG: the loss of each step thin, its exponential
// moving average thick. Steps whose loss is not finite are left out.
func Loss(w io.Writer, c Curve) error {
	if len(c.Loss) != len(c.Steps) || (c.Rate != nil && len(c.Rate) != len(c.Steps)) {
		return fmt.Errorf("figure: %d steps, %d losses, %d learning rates", len(c.Steps), len(c.Loss), len(c.Rate))
	}
	raw := finite(c.Steps, c.Loss)
	if len(raw) == 0 {
		return errors.New("figure: no step has a finite loss, nothing to draw")
	}
	span := c.Span
	if span <= 0 {
		span = max(1, len(raw)/30)
	}

	loss := plot.New()
	loss.Title.Text = c.Title
	loss.Title.Padding = vg.Points(6)
	loss.Y.Label.Text = "loss"
	thin := line(raw, color.RGBA{0x9f, 0xc0, 0xdc, 0xff}, 0.6)
	thick := line(smooth(raw, span), color.RGBA{0x00, 0x4c, 0x8c, 0xff}, 1.8)
	loss.Add(grid(), thin, thick)
	loss.Legend.Add("every step", thin)
	loss.Legend.Add("moving average", thick)
	loss.Legend.Top = true
	panels := []*plot.Plot{loss}
	heights := []vg.Length{lossHeight}

	if points := finite(c.Steps, c.Rate); len(points) > 0 {
		rate := plot.New()
		rate.Y.Label.Text = "learning rate"
		rate.Add(grid(), line(points, color.RGBA{0xb0, 0x5a, 0x00, 0xff}, 1.2))
		rate.Y.Min = min(rate.Y.Min, 0)
		rate.X.Min, rate.X.Max = min(rate.X.Min, loss.X.Min), max(rate.X.Max, loss.X.Max)
		loss.X.Min, loss.X.Max = rate.X.Min, rate.X.Max
		panels, heights = append(panels, rate), append(heights, rateHeight)
	}
	panels[len(panels)-1].X.Label.Text = "step"
	if err := stack(w, panels, heights); err != nil {
		return fmt.Errorf("figure: write loss curve: %w", err)
	}
	return nil
}

// stack writes the panels one below the other, with their vertical axes in one
// line.
func stack(w io.Writer, panels []*plot.Plot, heights []vg.Length) error {
	var height vg.Length
	for _, h := range heights {
		height += h
	}
	img := vgimg.NewWith(vgimg.UseWH(lossWidth, height), vgimg.UseDPI(lossDPI))
	const margin = 8 // points, so that no label touches the edge
	page := draw.Crop(draw.New(img), margin, -margin, margin, -margin)
	share := (height - 2*margin) / height
	canvases := make([]draw.Canvas, len(panels))
	left := page.Min.X
	top := page.Max.Y
	for i, p := range panels {
		canvases[i] = page
		canvases[i].Max.Y = top
		canvases[i].Min.Y = top - heights[i]*share
		top = canvases[i].Min.Y
		left = max(left, p.DataCanvas(canvases[i]).Min.X)
	}
	for i, p := range panels {
		canvases[i].Min.X += left - p.DataCanvas(canvases[i]).Min.X
		p.Draw(canvases[i])
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}

// finite pairs steps with values and leaves out what no axis can show.
func finite(steps, values []float64) plotter.XYs {
	var points plotter.XYs
	for i, v := range values {
		if s := v + steps[i]; !math.IsNaN(s) && !math.IsInf(s, 0) {
			points = append(points, plotter.XY{X: steps[i], Y: v})
		}
	}
	return points
}

// smooth is the exponential moving average with decay e^(-1/span), each value
// divided by the sum of its weights, so that the start is not drawn to zero.
func smooth(points plotter.XYs, span int) plotter.XYs {
	decay := math.Exp(-1 / float64(span))
	out := make(plotter.XYs, len(points))
	var sum, weight float64
	for i, p := range points {
		sum = decay*sum + (1-decay)*p.Y
		weight = decay*weight + (1 - decay)
		out[i] = plotter.XY{X: p.X, Y: sum / weight}
	}
	return out
}

// thinOut keeps of every stretch of a long curve the lowest and the highest
// point, in their order.
func thinOut(points plotter.XYs, keep int) plotter.XYs {
	if len(points) <= keep {
		return points
	}
	out := make(plotter.XYs, 0, keep)
	stretches := keep / 2
	for i := range stretches {
		from, to := i*len(points)/stretches, (i+1)*len(points)/stretches
		lo, hi := from, from
		for j := from; j < to; j++ {
			if points[j].Y < points[lo].Y {
				lo = j
			}
			if points[j].Y > points[hi].Y {
				hi = j
			}
		}
		out = append(out, points[min(lo, hi)], points[max(lo, hi)])
	}
	return out
}

func line(points plotter.XYs, c color.Color, width float64) *plotter.Line {
	return &plotter.Line{
		XYs:       thinOut(points, maxPoints),
		LineStyle: draw.LineStyle{Color: c, Width: vg.Points(width)},
	}
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color = color.Gray{0xe0}
	g.Vertical.Color = color.Gray{0xe0}
	return g
}

package main

import (
	"errors"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Layout of the curves: two panels a row.
const (
	panelWidth, panelHeight = 4.5 * vg.Inch, 2.4 * vg.Inch
	dpi                     = 110
)

// drawCurves draws a panel for each metric, with a line for each activity.
func drawCurves(path string, names []string, series [][]sample) error {
	const columns = 2
	rows := (len(figures) + columns - 1) / columns
	panels := make([][]*plot.Plot, rows)
	for i := range panels {
		panels[i] = make([]*plot.Plot, columns)
	}
	for i, m := range figures {
		p := plot.New()
		p.Title.Text = m.name
		if m.unit != "" {
			p.Title.Text += ", " + m.unit
		}
		if m.falls {
			p.Title.Text += ", of each activity's median"
		}
		p.X.Label.Text = "minutes"
		p.Y.Min = 0
		p.Legend.Top = true
		p.Legend.XOffs = -vg.Points(4)
		for k, name := range names {
			var points plotter.XYs
			var values []float64
			for n := range series[k] {
				if v := m.value(series[k], n); !math.IsNaN(v) {
					points = append(points, plotter.XY{X: series[k][n].At.Minutes(), Y: v})
					values = append(values, v)
				}
			}
			if len(points) == 0 {
				continue
			}
			if middle := median(values); m.falls && middle > 0 { // units are of different kinds
				for n := range points {
					points[n].Y /= middle
				}
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return err
			}
			line.Color = plotutil.Color(k)
			p.Add(line)
			p.Legend.Add(name, line)
		}
		p.Y.Max *= 1.35 // room for the legend
		panels[i/columns][i%columns] = p
	}
	canvas := vgimg.NewWith(vgimg.UseWH(columns*panelWidth, vg.Length(rows)*panelHeight), vgimg.UseDPI(dpi))
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Points(12), PadY: vg.Points(12), PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(6)}
	for i, row := range plot.Align(panels, tiles, draw.New(canvas)) {
		for j, c := range row {
			if panels[i][j] != nil {
				panels[i][j].Draw(c)
			}
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(f)
	return errors.Join(err, f.Close())
}

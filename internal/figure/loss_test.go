package figure

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gonum.org/v1/plot/plotter"
)

// run is a made-up loss that falls and wobbles.
func run(n int) Curve {
	c := Curve{Title: "run"}
	for i := range n {
		x := float64(i)
		c.Steps = append(c.Steps, x)
		c.Loss = append(c.Loss, -2-2*(1-math.Exp(-x/100))+0.3*math.Sin(x*x))
		c.Rate = append(c.Rate, 0.5+0.5*math.Cos(math.Pi*x/float64(n)))
	}
	return c
}

func drawLoss(t *testing.T, c Curve) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Loss(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngSize(t *testing.T, data []byte) image.Point {
	t.Helper()
	config, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return image.Pt(config.Width, config.Height)
}

func TestLossPicture(t *testing.T) {
	with := drawLoss(t, run(500))
	if got, want := pngSize(t, with), image.Pt(1400, 1080); got != want {
		t.Errorf("with the learning rate: %v, want %v", got, want)
	}
	if !bytes.Equal(with, drawLoss(t, run(500))) {
		t.Error("two drawings of one run differ")
	}
	c := run(500)
	c.Rate = nil
	without := drawLoss(t, c)
	if got, want := pngSize(t, without), image.Pt(1400, 800); got != want {
		t.Errorf("without: %v, want %v", got, want)
	}
}

// What is not finite is left out and moves nothing.
func TestLossNotFinite(t *testing.T) {
	c := run(50)
	c.Span = 3
	want := drawLoss(t, c)
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		d := run(50)
		d.Span = 3
		d.Steps = append(d.Steps, 10)
		d.Loss = append(d.Loss, bad)
		d.Rate = append(d.Rate, bad)
		if !bytes.Equal(want, drawLoss(t, d)) {
			t.Errorf("a loss of %g changes the picture", bad)
		}
	}
	if err := Loss(&bytes.Buffer{}, Curve{Steps: []float64{1}, Loss: []float64{math.NaN()}}); err == nil {
		t.Error("nothing to draw, but no error")
	}
	drawLoss(t, Curve{Steps: []float64{1}, Loss: []float64{-3}})
}

func TestLossErrors(t *testing.T) {
	if err := Loss(&bytes.Buffer{}, Curve{Steps: []float64{1, 2}, Loss: []float64{1}}); err == nil {
		t.Error("lengths differ, but no error")
	}
	closed, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if err := Loss(closed, run(5)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a failed write gives %v", err)
	}
}

func TestSmooth(t *testing.T) {
	constant := plotter.XYs{{X: 0, Y: 5}, {X: 1, Y: 5}, {X: 2, Y: 5}}
	if diff := cmp.Diff(constant, smooth(constant, 7), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Error(diff)
	}
	// Span 1: weights 1, 1/e, 1/e^2, normalised.
	e := math.E
	got := smooth(plotter.XYs{{X: 0, Y: 1}, {X: 1, Y: 2}, {X: 2, Y: 4}}, 1)
	want := plotter.XYs{{X: 0, Y: 1}, {X: 1, Y: (2 + 1/e) / (1 + 1/e)}, {X: 2, Y: (4 + 2/e + 1/(e*e)) / (1 + 1/e + 1/(e*e))}}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Error(diff)
	}
}

func TestThinOutKeepsPeaks(t *testing.T) {
	var points plotter.XYs
	for i := range 10_007 {
		points = append(points, plotter.XY{X: float64(i), Y: math.Sin(float64(i) / 500)})
	}
	points[1234].Y, points[5678].Y = 9, -9
	out := thinOut(points, 100)
	if len(out) != 100 {
		t.Errorf("%d points", len(out))
	}
	found := 0
	for i, p := range out {
		if p == points[1234] || p == points[5678] {
			found++
		}
		if i > 0 && p.X < out[i-1].X {
			t.Fatalf("out of order at %d", i)
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 peaks kept", found)
	}
}

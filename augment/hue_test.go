package augment

import (
	"math"
	"testing"
)

// TestHueTables compares the tables with the formulas of Pillow's C code, in
// its mixture of single and double precision, for every colour.
func TestHueTables(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: 16 million colours take seconds, under the race detector minutes; make test compares them")
	}
	tables := hsvTables()
	for c := range 1 << 24 {
		a, b, d := uint8(c>>16), uint8(c>>8), uint8(c)
		h, s, v := tables.fromRGB(a, b, d)
		if wantH, wantS, wantV := formulaHSV(a, b, d); h != wantH || s != wantS || v != wantV {
			t.Fatalf("RGB %d %d %d becomes HSV %d %d %d, want %d %d %d", a, b, d, h, s, v, wantH, wantS, wantV)
		}
		red, green, blue := tables.toRGB(a, b, d)
		if wantR, wantG, wantB := formulaRGB(a, b, d); red != wantR || green != wantG || blue != wantB {
			t.Fatalf("HSV %d %d %d becomes RGB %d %d %d, want %d %d %d", a, b, d, red, green, blue, wantR, wantG, wantB)
		}
	}
}

// formulaHSV follows Python's colorsys, scaled to 0 … 255 and cut off.
func formulaHSV(r, g, b uint8) (h, s, v uint8) {
	high, low := max(r, g, b), min(r, g, b)
	if high == low {
		return 0, 0, high
	}
	span := float32(high - low)
	distance := func(c uint8) float32 { return float32(high-c) / span }
	var sixths float32
	switch high {
	case r:
		sixths = distance(b) - distance(g)
	case g:
		sixths = float32(2 + float64(distance(r)) - float64(distance(b)))
	default:
		sixths = float32(4 + float64(distance(g)) - float64(distance(r)))
	}
	circle := float32(math.Mod(float64(sixths)/6+1, 1))
	return uint8(float64(circle) * 255), uint8(float64(span/float32(high)) * 255), high
}

// formulaRGB is the way back, rounded.
func formulaRGB(h, s, v uint8) (r, g, b uint8) {
	if s == 0 {
		return v, v, v
	}
	sixths := float64(h) * 6 / 255
	sector := math.Floor(sixths)
	part := float32(sixths - sector)
	saturation := float32(float64(s) / 255)
	level := func(share float64) uint8 { return uint8(math.Round(float64(v) * share)) }
	p := level(1 - float64(saturation))
	q := level(1 - float64(float32(saturation*part)))
	t := level(1 - float64(float64(saturation)*(1-float64(part))))
	return [6]uint8{v, q, p, p, t, v}[int(sector)%6], [6]uint8{t, v, v, q, p, p}[int(sector)%6], [6]uint8{p, p, t, v, v, q}[int(sector)%6]
}

// TestHueWrapsAround: the shift is cut to whole steps towards zero, and hues
// are added modulo 256.
func TestHueWrapsAround(t *testing.T) {
	colours := planesOf(Image{Width: 4, Height: 1, Pix: []uint8{255, 0, 0, 10, 200, 30, 0, 0, 255, 90, 20, 180}})
	for _, pair := range [][2]float64{
		{0, 0.9 / 255}, {0, -0.9 / 255}, // less than one step
		{0.1, 25.5 / 255}, {-0.1, -25.0 / 255}, // cut towards zero
		{0.5, 127.0 / 255}, {-0.5, -127.0 / 255},
	} {
		a, b := clonePlanes(colours), clonePlanes(colours)
		a.Hue(pair[0])
		b.Hue(pair[1])
		checkPlanes(t, b, a)
	}
	red := planesOf(Image{Width: 1, Height: 1, Pix: []uint8{255, 0, 0}})
	red.Hue(-0.1) // hue 0 becomes 231
	r, g, b := formulaRGB(231, 255, 255)
	checkPlanes(t, red, planesOf(Image{Width: 1, Height: 1, Pix: []uint8{r, g, b}}))
}

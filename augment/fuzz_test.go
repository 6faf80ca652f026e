package augment

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzApply makes views with whatever parameters Validate accepts: no panic,
// nothing written around the view, and the same by the portable code.
func FuzzApply(f *testing.F) {
	f.Add(uint64(1), uint8(64), uint8(48), uint8(32), uint8(32), 0, 0, 48, 64, true, []byte{0, 1, 2, 3}, 1.2, 0.8, -0.1, 1.5, true)
	f.Add(uint64(2), uint8(1), uint8(1), uint8(1), uint8(1), 0, 0, 1, 1, false, []byte{3}, 0.0, 0.0, 0.5, 1000.0, false)
	f.Add(uint64(3), uint8(255), uint8(3), uint8(7), uint8(200), 1, 17, 2, 201, true, []byte{2, 1}, 1e38, 1e-38, 0.0, 0.1, true)
	f.Add(uint64(4), uint8(70), uint8(70), uint8(40), uint8(40), 1, 17, 60, 50, true, []byte{4, 5, 7, 8}, 1.27, 0.73, 0.0, 3.0, true)
	f.Add(uint64(5), uint8(9), uint8(70), uint8(33), uint8(65), 0, 0, 70, 9, true, []byte{6, 4, 3, 2}, 3.0, 0.0, 0.5, 0.7, false)
	f.Fuzz(func(t *testing.T, seed uint64, srcWidth, srcHeight, dstWidth, dstHeight uint8,
		top, left, height, width int, flip bool, ops []byte, factor1, factor2, hue, sigma float64, solarize bool,
	) {
		if srcWidth == 0 || srcHeight == 0 || dstWidth == 0 || dstHeight == 0 {
			return
		}
		p := ViewParams{
			Crop: Rect{Top: top, Left: left, Height: height, Width: width}, Flip: flip,
			Jitters: len(ops), Grayscale: seed%2 == 0, BlurSigma: sigma, Solarize: solarize,
		}
		for i, op := range ops[:min(len(ops), len(p.Jitter))] {
			j := Jitter{Op: Op(op), Factor: [2]float64{factor1, factor2}[i%2]}
			if j.Op == OpHue {
				j.Factor = hue
			}
			if j.Op < opCount { // what is out of range goes to its end, so that little is refused
				f := operations[j.Op].factor
				j.Factor = min(max(j.Factor, f.lo), f.hi)
				if f.whole {
					j.Factor = math.Trunc(j.Factor)
				}
			}
			p.Jitter[i] = j
		}
		if p.Validate(int(srcWidth), int(srcHeight)) != nil {
			return
		}
		src := noise(rand.New(rand.NewPCG(seed, 0)), int(srcWidth), int(srcHeight))
		before := bytes.Clone(src.Pix)
		var scratch Scratch
		got, check := guarded(t, int(dstWidth), int(dstHeight))
		p.Apply(got, src, &scratch)
		check()
		if !bytes.Equal(src.Pix, before) {
			t.Error("the source was written")
		}
		again := NewPlanes(int(dstWidth), int(dstHeight))
		portably(func() { p.Apply(again, src, &scratch) })
		checkPlanes(t, again, got)
		for i, v := range p.Coord(src.Width, src.Height) {
			if !(v >= 0 && v <= 1) {
				t.Errorf("coordinate %d is %v", i, v)
			}
		}
	})
}

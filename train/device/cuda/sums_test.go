//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudatest"
)

// TestSums sums the weight gradients of convolutions over as many rows as
// ResNet-50 has for 256 views of 224 pixels, and compares a part of them with sums
// in float64: of values that have a mean, whose sums grow with the rows, and of
// such as have none, which leaves what is rounded. Every sum has the same bits when
// it is made again. cuDNN's sums, of windows of 3 x 3, are looked at beside those of
// gathered windows.
func TestSums(t *testing.T) {
	images, side := 256, 56
	if cudatest.Slow(t) {
		images, side = 64, 24 // several parts
	}
	for _, c := range []struct{ kernel, channels int }{{1, 64}, {3, 16}} {
		for _, mean := range []float32{0, 0.5} {
			rng := rand.New(rand.NewPCG(16, uint64(c.kernel)))
			// Seven bits and a sign are exact in all precisions, so that only sums are rounded.
			random := func() []float32 {
				v := make([]float32, images*side*side*c.channels)
				for i := range v {
					v[i] = float32(rng.IntN(129)-64)/128 + mean
				}
				return v
			}
			x, dy := random(), random()
			for _, precision := range []device.Precision{device.FP32, device.TF32, device.BF16} {
				for _, gathered := range []bool{false, true}[:min(c.kernel, 2)] { // one way for 1 x 1
					t.Run(fmt.Sprintf("%s, %dx%d, mean %g, gathered %v", precision, c.kernel, c.kernel, mean, gathered), func(t *testing.T) {
						o := Options{Precision: precision, noConvolver: gathered}
						sums(t, o, x, dy, images, side, c.channels, device.Convolution{Kernel: c.kernel, Stride: 1, Padding: c.kernel / 2})
					})
				}
			}
		}
	}
}

func sums(t *testing.T, o Options, xs, dys []float32, images, side, channels int, c device.Convolution) {
	d, err := Open(o)
	if err != nil && strings.Contains(err.Error(), "needs 8.0") {
		t.Skipf("this card lacks the precision: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows := images * side * side
	x, dy := d.AllocActivation(images, side, side, channels), d.AllocActivation(images, side, side, channels)
	d.Upload(x, xs)
	d.Upload(dy, dys)
	dw := d.Alloc(channels, c.Kernel, c.Kernel, channels)
	got, again := make([]float32, dw.Len()), make([]float32, dw.Len())
	for _, into := range [][]float32{got, again} {
		d.Zero(dw)
		d.ConvolveBackwardWeights(dw, device.Tensor{}, dy, x, c)
		d.Download(into, dw)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i] != again[i] {
			t.Fatalf("sum %d is %v, and %v when it is made again", i, got[i], again[i])
		}
	}
	worst, typical := 0.0, 0.0
	for _, at := range []struct{ out, ky, kx, in int }{
		{0, 0, 0, 0}, {channels - 1, c.Kernel - 1, c.Kernel - 1, channels - 1}, {3, c.Kernel / 2, 0, 7}, {9, 0, c.Kernel / 2, 1},
	} {
		sum, length := 0.0, 0.0
		for n := range images {
			for y := range side {
				for z := range side {
					iy, iz := y+at.ky-c.Padding, z+at.kx-c.Padding
					if iy < 0 || iy >= side || iz < 0 || iz >= side {
						continue
					}
					p := float64(dys[((n*side+y)*side+z)*channels+at.out]) * float64(xs[((n*side+iy)*side+iz)*channels+at.in])
					sum += p
					length += p * p
				}
			}
		}
		// Noise of the gradient that rounding must stay below by far: what a sum of as
		// many values of either sign comes to.
		noise := math.Sqrt(length)
		v := float64(got[((at.out*c.Kernel+at.ky)*c.Kernel+at.kx)*channels+at.in])
		worst, typical = max(worst, math.Abs(v-sum)/noise), max(typical, math.Abs(sum)/noise)
	}
	t.Logf("over %d rows, sums of up to %.0f times the noise are wrong by up to %.2g of it", rows, typical, worst)
	if worst > 0.01 {
		t.Errorf("sums over %d rows are wrong by up to %.2g of the gradient's noise", rows, worst)
	}
}

// BenchmarkWorkspace times a convolution of 3 x 3 pixels with more and less memory
// for gathered windows.
func BenchmarkWorkspace(b *testing.B) {
	images, side := 256, 56
	if cudatest.Slow(b) {
		images, side = 2, 14
	}
	for _, mib := range []int64{32, 64, 128, 256, 512, 1024} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			d, err := Open(Options{Precision: device.BF16, workspace: mib << 20, noConvolver: true})
			if err != nil && strings.Contains(err.Error(), "needs 8.0") {
				b.Skipf("this card lacks the precision: %v", err)
			}
			if err != nil {
				b.Fatal(err)
			}
			const channels = 64
			c := device.Convolution{Kernel: 3, Stride: 1, Padding: 1}
			x, y := d.AllocActivation(images, side, side, channels), d.AllocActivation(images, side, side, channels)
			w, dw := d.Alloc(channels, 3, 3, channels), d.Alloc(channels, 3, 3, channels)
			for _, t := range []device.Tensor{x, y, w, dw} {
				d.Zero(t)
			}
			d.Convolve(y, x, w, device.Tensor{}, c)
			if err := d.Sync(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				d.Convolve(y, x, w, device.Tensor{}, c)
				d.ConvolveBackwardData(x, y, w, c, false)
				d.ConvolveBackwardWeights(dw, device.Tensor{}, y, x, c)
				if err := d.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if err := d.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

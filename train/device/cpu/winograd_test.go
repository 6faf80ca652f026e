package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/train/device"
)

// TestWinograd compares Winograd's algorithm, and the product of windows for the same
// convolutions, with sums in float64, on normal values: they are off by as much. Sides
// are odd and even, channels fill vectors and tiles or not.
func TestWinograd(t *testing.T) {
	d := New(2)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range []struct{ images, height, width, in, out int }{{1, 4, 5, 35, 33}, {2, 9, 9, 64, 64}, {3, 7, 6, 33, 100}, {1, 8, 12, 256, 48}} {
		c := device.Convolution{Kernel: 3, Stride: 1, Padding: 1}.Explicit()
		random := func(shape ...int) device.Tensor {
			x := d.Alloc(shape...)
			for i := range floats(x) {
				floats(x)[i] = float32(rng.NormFloat64())
			}
			return x
		}
		x, w, dy := random(s.images, s.height, s.width, s.in), random(s.out, 3, 3, s.in), random(s.images, s.height, s.width, s.out)
		before := map[string]device.Tensor{"y": random(dy.Shape...), "dx": random(x.Shape...), "dw": random(w.Shape...)}
		g := newWindow(x, dy, c)
		if !g.winograd() {
			t.Fatalf("%+v is not computed by Winograd's algorithm", s)
		}
		xs, ws, ds := floats(x), floats(w), floats(dy)
		want := map[string][]float64{}
		for name, b := range before {
			for _, v := range floats(b) {
				if name == "y" {
					v = 0 // results of a convolution are never added
				}
				want[name] = append(want[name], float64(v))
			}
		}
		for p := range s.images * s.height * s.width {
			row, column := p/s.width%s.height, p%s.width
			for tap := range 9 {
				y, z := row+tap/3-1, column+tap%3-1
				if y < 0 || y >= s.height || z < 0 || z >= s.width {
					continue
				}
				from := (p + (y-row)*s.width + z - column) * s.in
				for o := range s.out {
					weight, to := (o*9+tap)*s.in, p*s.out+o
					for i := range s.in {
						want["y"][to] += float64(xs[from+i]) * float64(ws[weight+i])
						want["dx"][from+i] += float64(ds[to]) * float64(ws[weight+i])
						want["dw"][weight+i] += float64(ds[to]) * float64(xs[from+i])
					}
				}
			}
		}
		for _, algorithm := range []string{"windows", "Winograd"} {
			got := map[string]device.Tensor{}
			for name, b := range before {
				got[name] = d.Alloc(b.Shape...)
				copy(floats(got[name]), floats(b))
			}
			y, dx, dw := got["y"], got["dx"], got["dw"]
			if algorithm == "windows" {
				forward := g.forward()
				d.sweep(&forward, floats(y), xs, ws, nil, false)
				for _, backward := range g.backward() {
					d.sweep(&backward, floats(dx), ds, ws, nil, true)
				}
				d.weightGradients(gemm.Float32(), &g, floats(dw), values{floats: ds}, values{floats: xs})
			} else {
				d.Convolve(y, x, w, device.Tensor{}, c)
				d.ConvolveBackwardData(dx, dy, w, c, true)
				d.ConvolveBackwardWeights(dw, device.Tensor{}, dy, x, c)
			}
			for name := range got {
				var off, size, most float64
				for i, v := range want[name] {
					diff := math.Abs(v - float64(floats(got[name])[i]))
					off, size, most = off+diff*diff, size+v*v, max(most, diff)
				}
				what := fmt.Sprintf("%+v: %s by %s", s, name, algorithm)
				t.Logf("%s is off by %.2g of its length", what, math.Sqrt(off/size))
				if !(math.Sqrt(off/size) < 1e-6) || !(most < 1e-5*math.Sqrt(size/float64(len(want[name])))) {
					t.Errorf("%s is off by %g of its length, %g at most", what, math.Sqrt(off/size), most)
				}
			}
		}
	}
}

// TestWinogradOfNothing: no image, no change.
func TestWinogradOfNothing(t *testing.T) {
	d := New(2)
	c := device.Convolution{Kernel: 3, Stride: 1, Padding: 1}.Explicit()
	x, w, dw := d.Alloc(0, 8, 8, 32), d.Alloc(32, 3, 3, 32), d.Alloc(32, 3, 3, 32)
	for i := range floats(w) {
		floats(w)[i], floats(dw)[i] = 1, 2
	}
	if g := newWindow(x, x, c); !g.winograd() {
		t.Fatal("it is not computed by Winograd's algorithm")
	}
	d.Convolve(x, x, w, device.Tensor{}, c)
	d.ConvolveBackwardData(x, x, w, c, false)
	d.ConvolveBackwardWeights(dw, device.Tensor{}, x, x, c)
	for i, v := range floats(dw) {
		if v != 2 {
			t.Fatalf("gradient %d became %v", i, v)
		}
	}
}

// TestTransformsEqualPortable compares the transforms with their portable versions bit
// for bit, for all numbers of channels up to 40.
func TestTransformsEqualPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	values := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = float32(rng.NormFloat64())
		}
		return s
	}
	for n := 1; n <= 40; n++ {
		stride := n + rng.IntN(4)
		pixels, weights, transformed := values(16*n), values(9*n), values(16*stride)
		pointers := func(s []float32) (p [elements]*float32) {
			for i := range p {
				p[i] = &s[i%(len(s)/n)*n]
			}
			return p
		}
		for what, run := range map[string]func(out []float32, portable bool){
			"input": func(out []float32, portable bool) {
				x := pointers(pixels)
				if portable {
					transformInputGeneric(out, stride, &x, 0, n)
				} else {
					transformInput(out, stride, &x, n)
				}
			},
			"output": func(out []float32, portable bool) {
				x := pointers(out[:4*n])
				y := [4]*float32(x[:4])
				for _, accumulate := range []bool{false, true} {
					if portable {
						transformOutputGeneric(&y, transformed, stride, 0, n, accumulate)
					} else {
						transformOutput(&y, transformed, stride, n, accumulate)
					}
				}
			},
			"gradient": func(out []float32, portable bool) {
				x := pointers(pixels)
				dy := [4]*float32(x[:4])
				if portable {
					transformGradientGeneric(out, stride, &dy, 0, n)
				} else {
					transformGradient(out, stride, &dy, n)
				}
			},
			"weights": func(out []float32, portable bool) {
				if portable {
					transformWeightsGeneric(out, stride, weights, 0, n, false)
				} else {
					transformWeights(out, stride, weights, n, false)
				}
			},
			"turned weights": func(out []float32, portable bool) {
				if portable {
					transformWeightsGeneric(out, stride, weights, 0, n, true)
				} else {
					transformWeights(out, stride, weights, n, true)
				}
			},
			"weights' gradient": func(out []float32, portable bool) {
				if portable {
					addWeightGradientGeneric(out[:9*n], transformed, stride, 0, n)
				} else {
					addWeightGradient(out[:9*n], transformed, stride, n)
				}
			},
		} {
			out := values(16 * stride)
			want := append([]float32(nil), out...)
			run(out, false)
			run(want, true)
			for i := range want {
				if !same32(out[i], want[i]) {
					t.Fatalf("%s of %d channels: place %d is %v, portable %v", what, n, i, out[i], want[i])
				}
			}
		}
	}
}

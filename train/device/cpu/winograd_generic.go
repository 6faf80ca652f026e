package cpu

import "unsafe"

// The transforms of Winograd's algorithm for channels from, ..., n-1 in portable Go, the
// specification of those in transforms_amd64.s, whose bits are the same.

// transformInputGeneric writes B' x B of a tile's 16 pixels, element e from place
// e*stride on of dst.
func transformInputGeneric(dst []float32, stride int, x *[elements]*float32, from, n int) {
	at := func(p, i int) float32 { return unsafe.Slice(x[p], n)[i] }
	for i := from; i < n; i++ {
		for row := range 4 {
			var t [4]float32
			for c := range t {
				switch row {
				case 0:
					t[c] = at(c, i) - at(8+c, i)
				case 1:
					t[c] = at(4+c, i) + at(8+c, i)
				case 2:
					t[c] = at(8+c, i) - at(4+c, i)
				case 3:
					t[c] = at(4+c, i) - at(12+c, i)
				}
			}
			out := dst[row*4*stride+i:]
			out[0], out[stride], out[2*stride], out[3*stride] = t[0]-t[2], t[1]+t[2], t[2]-t[1], t[1]-t[3]
		}
	}
}

// transformOutputGeneric writes, or adds, A' m A to a tile's 4 pixels; element e of m
// lies from place e*stride on.
func transformOutputGeneric(y *[4]*float32, m []float32, stride, from, n int, accumulate bool) {
	for i := from; i < n; i++ {
		var t [2][4]float32
		for c := range 4 {
			m0, m1, m2, m3 := m[c*stride+i], m[(4+c)*stride+i], m[(8+c)*stride+i], m[(12+c)*stride+i]
			t[0][c], t[1][c] = m0+m1+m2, m1-m2-m3
		}
		for r, v := range t {
			for c, s := range [2]float32{v[0] + v[1] + v[2], v[1] - v[2] - v[3]} {
				out := unsafe.Slice(y[2*r+c], n)
				if accumulate {
					s += out[i]
				}
				out[i] = s
			}
		}
	}
}

// transformGradientGeneric writes A dy A' of a tile's 4 pixels.
func transformGradientGeneric(dst []float32, stride int, dy *[4]*float32, from, n int) {
	for i := from; i < n; i++ {
		var d [4]float32
		for q := range d {
			d[q] = unsafe.Slice(dy[q], n)[i]
		}
		for row, t := range [4][2]float32{{d[0], d[1]}, {d[0] + d[2], d[1] + d[3]}, {d[0] - d[2], d[1] - d[3]}, {0 - d[2], 0 - d[3]}} {
			out := dst[row*4*stride+i:]
			out[0], out[stride], out[2*stride], out[3*stride] = t[0], t[0]+t[1], t[0]-t[1], 0-t[1]
		}
	}
}

// transformWeightsGeneric writes G w G' of weights, 3 x 3 x n, turned around by half a
// turn if asked for.
func transformWeightsGeneric(dst []float32, stride int, w []float32, from, n int, turned bool) {
	at := func(p, i int) float32 {
		if turned {
			p = 8 - p
		}
		return w[p*n+i]
	}
	for i := from; i < n; i++ {
		var t [4][3]float32
		for c := range 3 {
			w0, w1, w2 := at(c, i), at(3+c, i), at(6+c, i)
			even, odd := 0.5*(w0+w2), 0.5*w1 // exact, so that fusing with the sums below changes nothing
			t[0][c], t[1][c], t[2][c], t[3][c] = w0, even+odd, even-odd, w2
		}
		for r, v := range t {
			even, odd := 0.5*(v[0]+v[2]), 0.5*v[1]
			out := dst[r*4*stride+i:]
			out[0], out[stride], out[2*stride], out[3*stride] = v[0], even+odd, even-odd, v[2]
		}
	}
}

// addWeightGradientGeneric adds G' u G to dw, 3 x 3 x n; element e of u lies from place
// e*stride on.
func addWeightGradientGeneric(dw, u []float32, stride, from, n int) {
	for i := from; i < n; i++ {
		var t [3][4]float32
		for c := range 4 {
			u0, u1, u2, u3 := u[c*stride+i], u[(4+c)*stride+i], u[(8+c)*stride+i], u[(12+c)*stride+i]
			even, odd := 0.5*(u1+u2), 0.5*(u1-u2)
			t[0][c], t[1][c], t[2][c] = u0+even, odd, even+u3
		}
		for r, v := range t {
			even, odd := 0.5*(v[1]+v[2]), 0.5*(v[1]-v[2])
			for c, s := range [3]float32{v[0] + even, odd, even + v[3]} {
				dw[(3*r+c)*n+i] += s
			}
		}
	}
}

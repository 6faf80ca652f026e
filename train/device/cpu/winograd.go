package cpu

import (
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

//go:generate go -C ../../../internal/gemm/asm run ./transforms -out ../../../train/device/cpu/transforms_amd64.s -stubs ../../../train/device/cpu/transforms_amd64.go -pkg cpu

// Convolutions of 3 x 3 pixels and stride 1 are computed by Winograd's algorithm for
// tiles of 2 x 2 results (Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2016), which takes 16 multiplications for 36: with B, G and A below,
//
//	y = A' ((G w G') * (B' x B)) A
//
// where x is a tile's 4 x 4 input, w the weights and * an elementwise product, whose
// sums over channels are matrix products, one for each of the 16 elements. The gradient
// of the input is the same with the weights turned around. That of the weights is
//
//	dw = G' (sum over tiles of (B' x B) * (A dy A')) G
//
//	B' = 1  0 -1  0    G =  1   0   0     A' = 1  1  1  0
//	     0  1  1  0        1/2 1/2 1/2         0  1 -1 -1
//	     0 -1  1  0        1/2-1/2 1/2
//	     0  1  0 -1         0   0   1

// elements are those of a transformed tile, 4 x 4.
const elements = 16

// winograd says whether the algorithm takes less time for a convolution than the
// product of its windows.
func (g *window) winograd() bool {
	return g.Kernel == 3 && g.Stride == 1 && g.Padding == 1 && g.Dilation == 1 && g.Groups == 1 &&
		min(g.Channels, g.Outs) >= 32 && min(g.Height, g.Width) >= 4
}

// tiling cuts maps into tiles of 2 x 2 pixels.
type tiling struct{ images, height, width, rows, columns int }

func tilingOf(g *window) tiling {
	return tiling{g.Images, g.Height, g.Width, (g.Height + 1) / 2, (g.Width + 1) / 2}
}

func (t *tiling) tiles() int { return t.images * t.rows * t.columns }

// place is the first pixel of a tile: its image, row and column.
func (t *tiling) place(tile int) (image, row, column int) {
	image, tile = tile/(t.rows*t.columns), tile%(t.rows*t.columns)
	return image, tile / t.columns * 2, tile % t.columns * 2
}

// pixels points to channels from first on of the size x size pixels from (row, column)
// on; outside of the map to what is given for there.
func (t *tiling) pixels(dst []*float32, x []float32, channels, first, image, row, column, size int, outside *float32) {
	for i := range dst {
		r, c := row+i/size, column+i%size
		dst[i] = outside
		if uint(r) < uint(t.height) && uint(c) < uint(t.width) {
			dst[i] = &x[((image*t.height+r)*t.width+c)*channels+first]
		}
	}
}

// winogradFloats is how many floats of transformed input a goroutine works on: they
// stay in the second-level cache.
const winogradFloats = 1 << 18

// winogradItems is as items; each transforms its input anew.
const winogradItems = 8

// winogradConvolve is the convolution of x, of depth channels, to y, of outs.
// The weights were transformed by one of the functions below.
func (d *Device) winogradConvolve(t tiling, y, x, weights []float32, depth, outs int, accumulate bool) {
	if t.tiles() == 0 {
		return
	}
	k := gemm.Float32()
	panels := (outs + k.NR - 1) / k.NR
	block := min(max(winogradFloats/(elements*depth), 24), 96) // tiles
	block = (block + k.MR - 1) / k.MR * k.MR
	blocks := (t.tiles() + block - 1) / block
	parts := min(panels, (winogradItems+blocks-1)/blocks)
	parallel.ForWorker(blocks*parts, d.threads, func(thread, i int) {
		from := i / parts * block
		tiles := min(block, t.tiles()-from)
		scratch := d.threadScratch(thread, elements*block*(depth+k.NR)+k.NR)
		v, m, nowhere := scratch[:elements*block*depth], scratch[elements*block*depth:], scratch[elements*block*(depth+k.NR):]
		pointers := d.threadPointers(thread, elements*block)
		for e := range elements {
			for j := range block {
				pointers[e*block+j] = &v[(e*block+min(j, tiles-1))*depth]
			}
		}
		var pixels [elements]*float32
		for j := range tiles {
			image, row, column := t.place(from + j)
			t.pixels(pixels[:], x, depth, 0, image, row-1, column-1, 4, &d.zeros[0])
			transformInput(v[j*depth:], block*depth, &pixels, depth)
		}
		for panel := i % parts * panels / parts; panel < (i%parts+1)*panels/parts; panel++ {
			for e := range elements {
				w := weights[(e*panels+panel)*depth*k.NR:]
				for r := 0; r < tiles; r += k.MR {
					k.Rows(pointers[e*block+r:], 1, depth, w, m[(e*block+r)*k.NR:], k.NR, min(k.MR, tiles-r), k.NR, false)
				}
			}
			first, columns := panel*k.NR, min(k.NR, outs-panel*k.NR)
			for j := range tiles {
				image, row, column := t.place(from + j)
				var results [4]*float32
				t.pixels(results[:], y, outs, first, image, row, column, 2, &nowhere[0])
				transformOutput(&results, m[j*k.NR:], block*k.NR, columns, accumulate)
			}
		}
	})
}

// winogradWeights transforms weights, outs x 3 x 3 x depth, for a convolution, and packs
// them: an element of the tiles after the other, panel after panel, each depth x NR.
func (d *Device) winogradWeights(w []float32, depth, outs int) []float32 {
	k := gemm.Float32()
	panels := (outs + k.NR - 1) / k.NR
	packed := d.packedWeights(elements * panels * depth * k.NR)
	d.zeroRow(depth)
	parallel.ForWorker(panels, d.threads, func(thread, panel int) {
		u := d.threadScratch(thread, elements*k.NR*depth)
		first, columns := panel*k.NR, min(k.NR, outs-panel*k.NR)
		for j := range columns {
			transformWeights(u[j*depth:], k.NR*depth, w[(first+j)*9*depth:], depth, false)
		}
		for e := range elements {
			gemm.Pack(packed[(e*panels+panel)*depth*k.NR:], u[e*k.NR*depth:], depth, columns, k.NR, 1, depth)
		}
	})
	return packed
}

// winogradTurned is winogradWeights for the gradient of the input: of depth channels
// from outs.
func (d *Device) winogradTurned(w []float32, depth, outs int) []float32 {
	k := gemm.Float32()
	panels := (depth + k.NR - 1) / k.NR
	packed := d.packedWeights(elements * panels * outs * k.NR)
	d.zeroRow(outs)
	parallel.ForWorker(outs, d.threads, func(thread, o int) {
		u := d.threadScratch(thread, elements*depth)
		transformWeights(u, depth, w[o*9*depth:], depth, true)
		for e := range elements {
			for panel := range panels {
				first, columns := panel*k.NR, min(k.NR, depth-panel*k.NR)
				row := packed[((e*panels+panel)*outs+o)*k.NR:][:k.NR]
				copy(row, u[e*depth+first:][:columns])
				clear(row[columns:])
			}
		}
	})
	return packed
}

// winogradTiles is how many tiles the gradient of the weights takes at a time.
const winogradTiles = 256

// winogradGradients adds the gradient of the weights, outs x 3 x 3 x depth.
func (d *Device) winogradGradients(t tiling, dw, dy, x []float32, depth, outs int) {
	if t.tiles() == 0 {
		return
	}
	k := gemm.Float32()
	block := min(winogradTiles, t.tiles())
	panels, panelsA := (depth+k.NR-1)/k.NR, (outs+k.MR-1)/k.MR
	zeros := d.zeroRow(max(k.NR, outs))
	sums := d.Alloc(elements, outs, depth)
	inputs, grads := d.Alloc(elements, panels, block, k.NR), d.Alloc(elements, block, outs)
	v, e, sum := floats(inputs), floats(grads), floats(sums)
	for from := 0; from < t.tiles(); from += block {
		tiles := min(block, t.tiles()-from)
		parallel.For((tiles+7)/8, d.threads, func(i int) {
			for j := i * 8; j < min(tiles, i*8+8); j++ {
				image, row, column := t.place(from + j)
				for panel := range panels {
					var pixels [elements]*float32
					t.pixels(pixels[:], x, depth, panel*k.NR, image, row-1, column-1, 4, zeros)
					transformInput(v[(panel*block+j)*k.NR:], panels*block*k.NR, &pixels, min(k.NR, depth-panel*k.NR))
				}
				var results [4]*float32
				t.pixels(results[:], dy, outs, 0, image, row, column, 2, zeros)
				transformGradient(e[j*outs:], block*outs, &results, outs)
			}
		})
		parallel.ForWorker(elements*panelsA, d.threads, func(thread, i int) {
			element, o := i/panelsA, i%panelsA*k.MR
			a := d.threadScratch(thread, tiles*k.MR)
			rows := min(k.MR, outs-o)
			gemm.Pack(a, e[element*block*outs+o:], tiles, rows, k.MR, outs, 1)
			for panel := range panels {
				first, columns := panel*k.NR, min(k.NR, depth-panel*k.NR)
				k.Packed(tiles, a, v[(element*panels+panel)*block*k.NR:], sum[(element*outs+o)*depth+first:], depth, rows, columns, from > 0)
			}
		})
	}
	parallel.For(outs, d.threads, func(o int) {
		addWeightGradient(dw[o*9*depth:], sum[o*depth:], outs*depth, depth)
	})
	for _, m := range []device.Tensor{sums, inputs, grads} {
		d.Free(m)
	}
}

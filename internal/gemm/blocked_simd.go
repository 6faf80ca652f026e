//go:build goexperiment.simd && amd64

package gemm

import (
	"simd/archsimd"
	"sync"
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// Blocking as in Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (2008): a kc x nr panel of B stays in the first-level cache,
// an mc x kc block of A in the second, a kc x nc block of B in the third.
const (
	mr = 4    // rows of C that a micro-kernel holds in registers
	kc = 256  // 256 x 32 floats are 32 KiB
	mc = 192  // 192 x 256 floats are 192 KiB
	nc = 2048 // 256 x 2048 floats are 2 MiB
)

// packed holds one goroutine's packed blocks.
type packed struct {
	a [mc * kc]float32
	b [kc * nc]float32
}

var packedPool = sync.Pool{New: func() any { return new(packed) }}

// microKernel adds to the mr x nr tile at c (row stride ldc), or stores there,
// the product of a packed kc x mr panel of A and a packed kc x nr panel of B:
//
//	for i := range mr { for j := range nr { for p := range k { c[i*ldc+j] += a[p*mr+i] * b[p*nr+j] } } }
type microKernel func(k int, a, b *float32, c *float32, ldc int, accumulate bool)

// blocked is Mul in packed blocks around a vector micro-kernel.
func blocked(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int) {
	nr, kernel := 16, microKernel(kernel4x16)
	if cpu.Current() >= cpu.AVX512 {
		nr, kernel = 32, kernel4x32
	}
	buf := packedPool.Get().(*packed)
	defer packedPool.Put(buf)
	var edge [mr * 32]float32
	for jc := 0; jc < n; jc += nc {
		cols := min(nc, n-jc)
		for pc := 0; pc < k; pc += kc {
			depth := min(kc, k-pc)
			add := accumulate || pc > 0
			packPanels(buf.b[:], b, ldb, !transB, jc, cols, pc, depth, nr)
			for ic := 0; ic < m; ic += mc {
				rows := min(mc, m-ic)
				packPanels(buf.a[:], a, lda, transA, ic, rows, pc, depth, mr)
				for jr := 0; jr < cols; jr += nr {
					panelB := &buf.b[jr*depth]
					for ir := 0; ir < rows; ir += mr {
						panelA := &buf.a[ir*depth]
						at := (ic+ir)*ldc + jc + jr
						if rows-ir >= mr && cols-jr >= nr {
							kernel(depth, panelA, panelB, &c[at], ldc, add)
							continue
						}
						kernel(depth, panelA, panelB, &edge[0], nr, false)
						for i := range min(mr, rows-ir) {
							row := c[at+i*ldc:][:min(nr, cols-jr)]
							if add {
								for j := range row {
									row[j] += edge[i*nr+j]
								}
							} else {
								copy(row, edge[i*nr:])
							}
						}
					}
				}
			}
		}
	}
	archsimd.ClearAVXUpperBits()
}

// packPanels writes, for each group of width consecutive vectors among count
// from first on, their elements from place at to at+depth, side by side: panel
// after panel of depth x width, missing vectors as zeros. Vector v's element p
// is src[p*stride+v] if along (vectors are columns), else src[v*stride+p].
func packPanels(dst, src []float32, stride int, along bool, first, count, at, depth, width int) {
	for v := 0; v < count; v += width {
		panel := dst[v*depth : v*depth+depth*width]
		have := min(width, count-v)
		if have < width {
			clear(panel)
		}
		if along {
			for p := range depth {
				copy(panel[p*width:p*width+have], src[(at+p)*stride+first+v:])
			}
			continue
		}
		for j := range have {
			row := src[(first+v+j)*stride+at:][:depth]
			for p, x := range row {
				panel[p*width+j] = x
			}
		}
	}
}

func float32s(p *float32, offset int) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(p), offset*4)
}

// kernel4x32 is the micro-kernel for AVX-512: eight accumulators, since the
// compiler has sixteen vector registers and spills beyond.
func kernel4x32(k int, a, b *float32, c *float32, ldc int, accumulate bool) {
	var c00, c01, c10, c11, c20, c21, c30, c31 archsimd.Float32x16
	pa, pb := unsafe.Pointer(a), unsafe.Pointer(b)
	for ; k > 0; k-- {
		b0 := archsimd.LoadFloat32x16((*[16]float32)(pb))
		b1 := archsimd.LoadFloat32x16((*[16]float32)(unsafe.Add(pb, 64)))
		av := (*[4]float32)(pa)
		a0 := archsimd.BroadcastFloat32x16(av[0])
		c00, c01 = a0.MulAdd(b0, c00), a0.MulAdd(b1, c01)
		a1 := archsimd.BroadcastFloat32x16(av[1])
		c10, c11 = a1.MulAdd(b0, c10), a1.MulAdd(b1, c11)
		a2 := archsimd.BroadcastFloat32x16(av[2])
		c20, c21 = a2.MulAdd(b0, c20), a2.MulAdd(b1, c21)
		a3 := archsimd.BroadcastFloat32x16(av[3])
		c30, c31 = a3.MulAdd(b0, c30), a3.MulAdd(b1, c31)
		if k == 1 {
			break // a pointer behind the panels would not be valid
		}
		pa, pb = unsafe.Add(pa, 16), unsafe.Add(pb, 128)
	}
	store := func(p unsafe.Pointer, x, y archsimd.Float32x16) {
		lo, hi := (*[16]float32)(p), (*[16]float32)(unsafe.Add(p, 64))
		if accumulate {
			x, y = x.Add(archsimd.LoadFloat32x16(lo)), y.Add(archsimd.LoadFloat32x16(hi))
		}
		x.Store(lo)
		y.Store(hi)
	}
	store(float32s(c, 0), c00, c01)
	store(float32s(c, ldc), c10, c11)
	store(float32s(c, 2*ldc), c20, c21)
	store(float32s(c, 3*ldc), c30, c31)
}

// kernel4x16 is the micro-kernel for AVX2 and FMA.
func kernel4x16(k int, a, b *float32, c *float32, ldc int, accumulate bool) {
	var c00, c01, c10, c11, c20, c21, c30, c31 archsimd.Float32x8
	pa, pb := unsafe.Pointer(a), unsafe.Pointer(b)
	for ; k > 0; k-- {
		b0 := archsimd.LoadFloat32x8((*[8]float32)(pb))
		b1 := archsimd.LoadFloat32x8((*[8]float32)(unsafe.Add(pb, 32)))
		av := (*[4]float32)(pa)
		a0 := archsimd.BroadcastFloat32x8(av[0])
		c00, c01 = a0.MulAdd(b0, c00), a0.MulAdd(b1, c01)
		a1 := archsimd.BroadcastFloat32x8(av[1])
		c10, c11 = a1.MulAdd(b0, c10), a1.MulAdd(b1, c11)
		a2 := archsimd.BroadcastFloat32x8(av[2])
		c20, c21 = a2.MulAdd(b0, c20), a2.MulAdd(b1, c21)
		a3 := archsimd.BroadcastFloat32x8(av[3])
		c30, c31 = a3.MulAdd(b0, c30), a3.MulAdd(b1, c31)
		if k == 1 {
			break // a pointer behind the panels would not be valid
		}
		pa, pb = unsafe.Add(pa, 16), unsafe.Add(pb, 64)
	}
	store := func(p unsafe.Pointer, x, y archsimd.Float32x8) {
		lo, hi := (*[8]float32)(p), (*[8]float32)(unsafe.Add(p, 32))
		if accumulate {
			x, y = x.Add(archsimd.LoadFloat32x8(lo)), y.Add(archsimd.LoadFloat32x8(hi))
		}
		x.Store(lo)
		y.Store(hi)
	}
	store(float32s(c, 0), c00, c01)
	store(float32s(c, ldc), c10, c11)
	store(float32s(c, 2*ldc), c20, c21)
	store(float32s(c, 3*ldc), c30, c31)
}

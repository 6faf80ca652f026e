package gemm

import (
	"sync"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// levels are the implementations in assembly, the fastest first.
func levels() (list []implementation) {
	if cpu.Assembly() >= cpu.AVX512 {
		k := Kernels{MR: 12, NR: 32}
		k.rows = [...]func(**float32, int, int, *float32, *float32, int, bool){rowsFloat32AVX512x4, rowsFloat32AVX512x8, rowsFloat32AVX512x12}
		k.packed = [...]func(int, *float32, *float32, *float32, int, bool){packedFloat32AVX512x4, packedFloat32AVX512x8, packedFloat32AVX512x12}
		list = append(list, ofKernels("Go assembly, avx512", k))
	}
	if cpu.Assembly() >= cpu.AVX2 {
		k := Kernels{MR: 6, NR: 16}
		k.rows = [...]func(**float32, int, int, *float32, *float32, int, bool){rowsFloat32AVX2x2, rowsFloat32AVX2x4, rowsFloat32AVX2x6}
		k.packed = [...]func(int, *float32, *float32, *float32, int, bool){packedFloat32AVX2x2, packedFloat32AVX2x4, packedFloat32AVX2x6}
		list = append(list, ofKernels("Go assembly, avx2", k))
	}
	return list
}

// copyRows is Pack of whole rows, for the widths that there are kernels of.
func copyRows(dst, src []float32, depth, width, stride int) bool {
	if cpu.Assembly() < cpu.AVX2 {
		return false
	}
	to, from := &dst[0], &src[0]
	switch width {
	case 6:
		copyRows6(to, from, depth, stride)
	case 12:
		copyRows12(to, from, depth, stride)
	case 16:
		copyRows16(to, from, depth, stride)
	case 32:
		copyRows32(to, from, depth, stride)
	default:
		return false
	}
	return true
}

// transposeColumns packs as many of the first columns as it can, and says how many.
func transposeColumns(dst, src []float32, depth, n, width, js int) int {
	if cpu.Assembly() < cpu.AVX2 || depth < 8 {
		return 0
	}
	j := 0
	for ; j+8 <= n; j += 8 {
		transpose8(&dst[j], &src[j*js], depth/8, js, width)
		for p := depth / 8 * 8; p < depth; p++ {
			for i := j; i < j+8; i++ {
				dst[p*width+i] = src[i*js+p]
			}
		}
	}
	return j
}

// copyPanels is PackPanels of whole panels, for the widths that there are kernels of.
func copyPanels(dst, src []float32, rows, width, stride, panels, apart int) bool {
	if cpu.Assembly() < cpu.AVX2 || rows == 0 {
		return false
	}
	_, _ = dst[(panels-1)*apart+rows*width-1], src[(rows-1)*stride+panels*width-1]
	switch width {
	case 6:
		copyPanels6(&dst[0], &src[0], rows, stride, panels, apart)
	case 12:
		copyPanels12(&dst[0], &src[0], rows, stride, panels, apart)
	default:
		return false
	}
	return true
}

// pairKernels are those for pairs of bfloat16, nil without.
var pairKernels = sync.OnceValue(func() *Kernels {
	if cpu.Assembly() < cpu.AVX512BF16 {
		return nil
	}
	k := &Kernels{MR: 12, NR: 32}
	k.rows = [...]func(**float32, int, int, *float32, *float32, int, bool){rowsBFloat16x4, rowsBFloat16x8, rowsBFloat16x12}
	k.packed = [...]func(int, *float32, *float32, *float32, int, bool){packedBFloat16x4, packedBFloat16x8, packedBFloat16x12}
	return k
})

// whole is how many of n values are converted in assembly, 16 at a time.
func whole(n int) int {
	if cpu.Assembly() < cpu.AVX512 {
		return 0
	}
	return n &^ 15
}

func widen(dst []float32, src []uint16) int {
	n := whole(len(src))
	if n > 0 {
		widenAVX512(&dst[:n][0], &src[0], n/16)
	}
	return n
}

func narrow(dst []uint16, src []float32) int {
	n := whole(len(src))
	if n > 0 {
		narrowAVX512(&dst[:n][0], &src[0], n/16)
	}
	return n
}

func narrowPairs(dst, a, b []float32) int {
	n := whole(len(a))
	if n > 0 {
		narrowPairsAVX512(&dst[:n][0], &a[0], &b[:n][0], n/16)
	}
	return n
}

func interleave(dst []float32, a, b []uint16) int {
	n := whole(len(a))
	if n > 0 {
		interleaveAVX512(&dst[:n][0], &a[0], &b[:n][0], n/16)
	}
	return n
}

// interleaveRows is PackPairs for the width that there is a function of.
func interleaveRows(dst []float32, rows []*uint16, offset, width int) bool {
	if width != 32 || cpu.Assembly() < cpu.AVX512 {
		return false
	}
	interleaveRows32AVX512(&dst[0], &rows[0], 2*offset, len(rows)/2)
	return true
}

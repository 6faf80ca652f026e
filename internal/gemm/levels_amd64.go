package gemm

import "github.com/seed-436d2970/pixpro/internal/cpu"

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

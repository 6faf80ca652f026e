package gemm

import "unsafe"

//go:generate go -C asm run ./kernels -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg gemm

// Kernels compute tiles of products, MR rows by NR columns, of factors that are read
// where they lie or were packed for it. They are what a convolution is made of, whose
// rows are windows of a map.
type Kernels struct {
	MR, NR int
	// Regular says that the rows of a tile must lie the same number of floats apart,
	// and that a product has one tap.
	Regular bool

	// kernels of the first third of a tile's rows, of two thirds, and of all.
	rows   [3]func(rows **float32, taps, depth int, b, c *float32, ldc int, accumulate bool)
	packed [3]func(depth int, a, b, c *float32, ldc int, accumulate bool)
	mul    mulFunc // instead of these
}

// third says which kernels compute m rows, and how many these have.
func (k *Kernels) third(m int) (which, rows int) {
	each := k.MR / 3
	which = (m - 1) / each
	return which, (which + 1) * each
}

// Float32 are the kernels in use.
func Float32() *Kernels { return active().kernels }

// Rows computes the first m rows and n columns of a tile of C, whose rows lie ldc floats
// apart:
//
//	C[i][j] = (or +=) sum over t < taps, p < depth of rows[t*MR+i][p] * b[(t*depth+p)*NR+j]
//
// All of taps x MR rows must be readable.
func (k *Kernels) Rows(rows []*float32, taps, depth int, b, c []float32, ldc, m, n int, accumulate bool) {
	_, _, _ = rows[taps*k.MR-1], b[taps*depth*k.NR-1], c[(m-1)*ldc+n-1]
	switch {
	case k.mul != nil:
		stride := depth
		if m > 1 {
			stride = int(uintptr(unsafe.Pointer(rows[1]))-uintptr(unsafe.Pointer(rows[0]))) / 4
		}
		k.mul(false, false, m, n, depth, unsafe.Slice(rows[0], (m-1)*stride+depth), stride, b, k.NR, accumulate, c, ldc)
	default:
		which, have := k.third(m)
		if m == have && n == k.NR {
			k.rows[which](&rows[0], taps, depth, &b[0], &c[0], ldc, accumulate)
			return
		}
		k.edge(c, ldc, m, n, accumulate, func(tile *float32) { k.rows[which](&rows[0], taps, depth, &b[0], tile, k.NR, false) })
	}
}

// Packed is Rows of rows that lie side by side:
//
//	C[i][j] = (or +=) sum over p < depth of a[p*MR+i] * b[p*NR+j]
func (k *Kernels) Packed(depth int, a, b, c []float32, ldc, m, n int, accumulate bool) {
	_, _, _ = a[depth*k.MR-1], b[depth*k.NR-1], c[(m-1)*ldc+n-1]
	switch {
	case k.mul != nil:
		k.mul(true, false, m, n, depth, a, k.MR, b, k.NR, accumulate, c, ldc)
	default:
		which, have := k.third(m)
		if m == have && n == k.NR {
			k.packed[which](depth, &a[0], &b[0], &c[0], ldc, accumulate)
			return
		}
		k.edge(c, ldc, m, n, accumulate, func(tile *float32) { k.packed[which](depth, &a[0], &b[0], tile, k.NR, false) })
	}
}

// edge copies, or adds, the part of a tile that is there.
//
//go:noinline
func (k *Kernels) edge(c []float32, ldc, m, n int, accumulate bool, compute func(tile *float32)) {
	var tile [12 * 32]float32
	compute(&tile[0])
	for i := range m {
		row, from := c[i*ldc:][:n], tile[i*k.NR:][:n]
		if !accumulate {
			copy(row, from)
			continue
		}
		for j, v := range from {
			row[j] += v
		}
	}
}

// Pack packs n <= width rows or columns of a factor side by side, for a kernel of that
// width: dst[p*width+j] = src[p*ps+j*js] for p < depth and j < n, and 0 for n <= j <
// width. One of the strides is 1.
func Pack(dst, src []float32, depth, n, width, ps, js int) {
	if depth == 0 || n == 0 {
		return
	}
	dst, src = dst[:depth*width], src[:(depth-1)*ps+(n-1)*js+1]
	if js != 1 {
		packTransposed(dst, src, depth, n, width, js)
		return
	}
	if n == width && copyRows(dst, src, depth, width, ps) {
		return
	}
	if n < width {
		clear(dst)
	}
	for p := range depth {
		row := src[p*ps:][:n]
		for j, v := range row {
			dst[p*width+j] = v
		}
	}
}

// PackPanels packs n columns of depth rows, which lie stride floats apart, in panels of
// that width that begin so many floats apart; what the last lacks is 0.
func PackPanels(dst, src []float32, depth, n, width, stride, apart int) {
	full := n / width
	if full > 0 && copyPanels(dst, src, depth, width, stride, full, apart) {
		dst, src, n = dst[full*apart:], src[full*width:], n-full*width
	}
	for ; n > 0; n -= width {
		Pack(dst, src, depth, min(n, width), width, stride, 1)
		if n > width {
			dst, src = dst[apart:], src[width:]
		}
	}
}

// packTransposed is Pack of columns that are js apart.
func packTransposed(dst, src []float32, depth, n, width, js int) {
	const some = 64 // places whose panel stays in the first-level cache
	for from := 0; from < depth; from += some {
		to := min(depth, from+some)
		j := transposeColumns(dst[from*width:], src[from:], to-from, n, width, js)
		for ; j < n; j++ {
			for p, v := range src[j*js+from : j*js+to] {
				dst[(from+p)*width+j] = v
			}
		}
		for ; j < width; j++ {
			for p := from; p < to; p++ {
				dst[p*width+j] = 0
			}
		}
	}
}

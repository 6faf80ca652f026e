package gemm

import (
	"sync"
	"unsafe"
)

// Blocking as in Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (2008): of B, blockDepth x blockColumns are packed at a time and meet
// all rows of A, of which those that are not transposed are read where they lie.
const (
	blockDepth   = 256
	blockColumns = 512
)

// Collide says that the rows of a tile would push one another out of the first-level
// cache if they lie so many floats apart. Copies of them should lie Apart further apart.
func Collide(stride int) bool { return stride%256 == 0 }

// Apart is the number of floats by which rows are moved apart.
const Apart = 16

// workspace is a product's memory.
type workspace struct {
	a    [blockDepth*12 + 12*Apart]float32
	b    [blockDepth * blockColumns]float32
	rows [12]*float32
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// tiled is Mul by kernels.
func (k *Kernels) tiled(transA, transB bool, m, n, depth int, a []float32, lda int, b []float32, ldb int, accumulate bool, c []float32, ldc int) {
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	for jc := 0; jc < n; jc += blockColumns {
		columns := min(blockColumns, n-jc)
		for pc := 0; pc < depth; pc += blockDepth {
			places := min(blockDepth, depth-pc)
			for j := 0; j < columns; j += k.NR {
				if transB {
					Pack(w.b[j*places:], b[(jc+j)*ldb+pc:], places, min(k.NR, columns-j), k.NR, 1, ldb)
				} else {
					Pack(w.b[j*places:], b[pc*ldb+jc+j:], places, min(k.NR, columns-j), k.NR, ldb, 1)
				}
			}
			for i := 0; i < m; i += k.MR {
				rows := min(k.MR, m-i)
				if transA {
					Pack(w.a[:], a[pc*lda+i:], places, rows, k.MR, lda, 1)
				} else {
					w.point(k, a[i*lda+pc:], lda, rows, places)
				}
				for j := 0; j < columns; j += k.NR {
					to := c[i*ldc+jc+j:]
					if transA {
						k.Packed(places, w.a[:], w.b[j*places:], to, ldc, rows, min(k.NR, columns-j), accumulate || pc > 0)
					} else {
						k.Rows(w.rows[:k.MR], 1, places, w.b[j*places:], to, ldc, rows, min(k.NR, columns-j), accumulate || pc > 0)
					}
				}
			}
		}
	}
	clear(w.rows[:]) // keep nothing alive
}

// point points to rows of a, or to copies of them where they would collide; rows that
// there are not are the first.
func (w *workspace) point(k *Kernels, a []float32, lda, rows, places int) {
	for r := range k.MR {
		switch {
		case r >= rows:
			w.rows[r] = w.rows[0]
		case Collide(lda):
			row := w.a[r*(places+Apart):][:places]
			copy(row, a[r*lda:])
			w.rows[r] = unsafe.SliceData(row)
		default:
			w.rows[r] = &a[r*lda]
		}
	}
}

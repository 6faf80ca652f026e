//go:build !(goexperiment.simd && amd64)

package augment

// Builds without vector instructions have kernels that leave all to the portable
// code.

type resizeVectors struct{}

func (k *kernel) prepareColumns()                          {}
func (k *kernel) prepareRows()                             {}
func (k *kernel) resizeRowVector(r, g, b, row []uint8) int { return 0 }
func (k *kernel) combineRowsVector(dst, strip []uint8, y int) int {
	return 0
}

func sumLumaVector(r, g, b []uint8) (n int, sum uint64)                 { return 0, 0 }
func grayscaleVector(r, g, b []uint8) int                               { return 0 }
func saturationVector(r, g, b []uint8, factor float32) int              { return 0 }
func blendVector(pix []uint8, from uint8, factor float32) int           { return 0 }
func solarizeVector(pix []uint8, threshold int) int                     { return 0 }
func hueVector(r, g, b []uint8, shift uint8) int                        { return 0 }
func (f boxFilter) suitsVector(width int) bool                          { return false }
func (f boxFilter) blurVector(plane []uint8, width int, b *blurScratch) {}

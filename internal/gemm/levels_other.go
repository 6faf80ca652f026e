//go:build !amd64

package gemm

// levels are the implementations in assembly, the fastest first.
func levels() []implementation { return nil }

func copyRows(dst, src []float32, depth, width, stride int) bool { return false }

func transposeColumns(dst, src []float32, depth, n, width, js int) int { return 0 }

func copyPanels(dst, src []float32, rows, width, stride, panels, apart int) bool { return false }

func pairKernels() *Kernels { return nil }

func widen([]float32, []uint16) int               { return 0 }
func narrow([]uint16, []float32) int              { return 0 }
func narrowPairs(dst, a, b []float32) int         { return 0 }
func interleave(dst []float32, a, b []uint16) int { return 0 }

func interleaveRows(dst []float32, rows []*uint16, offset, width int) bool { return false }

//go:build !amd64

package gemm

// levels are the implementations in assembly, the fastest first.
func levels() []implementation { return nil }

func copyRows(dst, src []float32, depth, width, stride int) bool { return false }

func transposeColumns(dst, src []float32, depth, n, width, js int) int { return 0 }

func copyPanels(dst, src []float32, rows, width, stride, panels, apart int) bool { return false }

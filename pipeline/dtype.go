package pipeline

import "github.com/apache/arrow/go/v15/arrow"

// DType is the type of a view's numbers.
type DType string

const (
	Uint8 DType = "uint8" // 0-255, for consumers that normalise themselves
	// Float32 views are normalised by ImageNet, with the same bits as
	// torchvision's ToTensor and Normalize: four times the bytes.
	Float32 DType = "float32"
)

// arrowType is the type of an element.
func (d DType) arrowType() arrow.FixedWidthDataType {
	if d == Float32 {
		return arrow.PrimitiveTypes.Float32.(arrow.FixedWidthDataType)
	}
	return arrow.PrimitiveTypes.Uint8.(arrow.FixedWidthDataType)
}

// bytes is the size of an element.
func (d DType) bytes() int { return d.arrowType().Bytes() }

// normalized has, for R, G and B, what each of the 256 levels becomes: in the
// single precision of torchvision's operations, where devices that normalise
// Uint8 views compute in double precision and round once.
var normalized = func() (table [3][256]float32) {
	n := ImageNet()
	for c := range table {
		for v := range table[c] {
			table[c][v] = (float32(v)/255 - float32(n.Mean[c])) / float32(n.Std[c])
		}
	}
	return table
}()

// normalize writes a view's planes, R, G, B, as Float32 views have them.
func normalize(dst []float32, planes []uint8) {
	n := len(planes) / 3
	for c := range normalized {
		table := &normalized[c]
		to := dst[c*n:][:n]
		for i, v := range planes[c*n:][:n] {
			to[i] = table[v]
		}
	}
}

package device

import "fmt"

// Product is a batch of matrix products: op(a) is M x K, op(b) K x N, where op
// transposes if asked to, and c M x N. The matrices of a batch lie one after
// another in their tensors, whose shapes need not say so.
type Product struct {
	Batch, M, N, K         int
	TransposeA, TransposeB bool
	Accumulate             bool // add to c
}

// Check makes sure that tensors have the matrices' sizes; others are a
// programming error.
func (p *Product) Check(c, a, b Tensor) {
	if a.Len() != p.Batch*p.M*p.K || b.Len() != p.Batch*p.K*p.N || c.Len() != p.Batch*p.M*p.N {
		panic(fmt.Sprintf("device: %d products of %d x %d and %d x %d matrices: %v and %v to %v", p.Batch, p.M, p.K, p.K, p.N, a.Shape, b.Shape, c.Shape))
	}
}

// Place is an element of a tensor as a matrix of Rows x Channels.
type Place struct{ Row, Column int }

// CheckBlock makes sure that a block lies within a tensor; others are a
// programming error.
func (p Place) CheckBlock(t Tensor, rows, columns int) {
	if p.Row < 0 || p.Column < 0 || rows < 0 || columns < 0 || p.Row+rows > t.Rows() || p.Column+columns > t.Channels() {
		panic(fmt.Sprintf("device: %d x %d values from row %d, column %d on of %v", rows, columns, p.Row, p.Column, t.Shape))
	}
}

// MaxIndex is the number of rows that an index can tell apart: indices are whole
// numbers in float32.
const MaxIndex = 1 << 24

// Gathering is the geometry of Gather: Batch tables of Rows rows with Columns
// values, of each of which Count rows are taken.
type Gathering struct{ Batch, Rows, Columns, Count int }

// NewGathering is the geometry that takes rows of x, Batch x ... x Columns, by
// index, Batch x Count, to y. Tensors of other shapes are a programming error.
func NewGathering(y, x, index Tensor) Gathering {
	g := Gathering{Batch: index.Rows(), Columns: x.Channels(), Count: index.Channels()}
	if g.Batch > 0 {
		g.Rows = x.Rows() / g.Batch
	}
	if g.Batch*g.Rows != x.Rows() || y.Len() != index.Len()*g.Columns || g.Rows > MaxIndex {
		panic(fmt.Sprintf("device: rows of %v by indices %v to %v", x.Shape, index.Shape, y.Shape))
	}
	return g
}

// UpsampleFactor is the number of times that y is as high and as wide as x, N x H
// x W x C; tensors of other shapes are a programming error.
func UpsampleFactor(y, x Tensor) int {
	factor := y.Shape[1] / x.Shape[1]
	if y.Shape[0] != x.Shape[0] || y.Shape[3] != x.Shape[3] || factor < 1 || y.Shape[1] != factor*x.Shape[1] || y.Shape[2] != factor*x.Shape[2] {
		panic(fmt.Sprintf("device: up-sampling of %v to %v", x.Shape, y.Shape))
	}
	return factor
}

// Primitives are what losses and heads are composed of. Tensors are of Alloc
// except where activations are named. Rows and columns are those of the tensor
// as a matrix of Rows x Channels. A mask has the shape of what it masks and
// lets through where it is not 0; an absent one lets everything through.
type Primitives interface {
	// Multiply computes the products of a and b.
	Multiply(c, a, b Tensor, p Product)
	// Combine computes y = alpha a + beta b; b may be absent, and y be a or b.
	Combine(y Tensor, alpha float64, a Tensor, beta float64, b Tensor)
	// Copy copies a block of rows x columns from a place in src to one in dst,
	// which is another tensor of the same kind: both of Alloc, or activations.
	Copy(dst Tensor, to Place, src Tensor, from Place, rows, columns int)

	// ReLU computes y = max(x, 0), of activations; y may be x.
	ReLU(y, x Tensor)
	// ReLUBackward computes dx, which may be dy.
	ReLUBackward(dx, dy, y Tensor)
	// Upsample repeats each cell of x, N x H x W x C, of activations, so that y is
	// a whole number of times as high and as wide.
	Upsample(y, x Tensor)
	// UpsampleBackward computes dx.
	UpsampleBackward(dx, dy Tensor)

	// Softmax computes y_rj = exp(x_rj / tau) over the sum of those that the mask
	// lets through in row r, 0 where it does not.
	Softmax(y, x, mask Tensor, tau float64)
	// SoftmaxBackward computes dx, which may be dy.
	SoftmaxBackward(dx, dy, y Tensor, tau float64)
	// LogSumExp computes y_r = log sum_j exp(x_rj / tau) over those that the mask
	// lets through in row r, -infinity where there are none.
	LogSumExp(y, x, mask Tensor, tau float64)
	// LogSumExpBackward computes dx.
	LogSumExpBackward(dx, dy, y, x, mask Tensor, tau float64)
	// Mean computes y_r, the mean of what the mask lets through in row r of x, 0
	// where there is nothing. What it does not let through may be anything.
	Mean(y, x, mask Tensor)
	// MeanBackward computes dx, 0 where the mask lets nothing through.
	MeanBackward(dx, dy, mask Tensor)

	// ArgMax writes the column of the first of each row's largest values.
	ArgMax(index, x Tensor)
	// Gather takes rows of tables: see Gathering. y_bi = x_b,index_bi. An index
	// that is no row's gives a row of not-a-number.
	Gather(y, x, index Tensor)
	// GatherBackward adds the gradients of rows to dx.
	GatherBackward(dx, dy, index Tensor)

	// Positives writes a mask, N x HW x HW, of the cells of each image's query map,
	// rows x cols, and of its key map that match. Of m it uses all but Scale.
	Positives(mask Tensor, rows, cols int, m Matching)
}

// Reshaped is t with another shape of as many elements, in the same memory.
func (t Tensor) Reshaped(shape ...int) Tensor {
	if Elements(shape) != t.Len() {
		panic(fmt.Sprintf("device: %v is no shape for %v", shape, t.Shape))
	}
	return Tensor{shape, t.Memory}
}

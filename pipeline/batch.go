package pipeline

import (
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/seed-436d2970/pixpro/augment"
)

// Batch is a typed window on a record batch of view pairs. It copies nothing
// and holds no reference: it is valid as long as the record is.
type Batch struct {
	rows   int
	size   int
	index  []int64
	keys   *array.String
	labels []int32
	views  [2][]uint8   // nil: floats
	floats [2][]float32 // nil: views
	coords [2][]float32
	params [2]paramColumns
}

// paramColumns are the columns of a params struct.
type paramColumns struct {
	rect                      [4][]int32 // top, left, height, width
	flip, grayscale, solarize *array.Boolean
	order                     []int8    // 4 a row
	factors                   []float64 // 4 a row
	blurSigma                 []float64
}

// NewBatch opens the typed window on rec. It fails if rec is not of the schema
// that Schema describes, whoever made it.
func NewBatch(rec arrow.Record) (Batch, error) {
	if err := checkVersion(rec.Schema()); err != nil {
		return Batch{}, err
	}
	size, dtype, err := ViewsOf(rec.Schema())
	if err != nil {
		return Batch{}, err
	}
	b := Batch{rows: int(rec.NumRows()), size: size}
	for i, f := range fields(b.size, dtype) {
		got := rec.Schema().Field(i)
		if got.Name != f.Name || !arrow.TypeEqual(got.Type, f.Type) {
			return Batch{}, fmt.Errorf("pipeline: column %d is %s %v, want %s %v", i, got.Name, got.Type, f.Name, f.Type)
		}
		if n := rec.Column(i).NullN(); n != 0 {
			return Batch{}, fmt.Errorf("pipeline: column %s has %d nulls", f.Name, n)
		}
	}
	b.index = rec.Column(colIndex).(*array.Int64).Int64Values()
	b.keys = rec.Column(colKey).(*array.String)
	b.labels = rec.Column(colLabel).(*array.Int32).Int32Values()
	for v := range 2 {
		if dtype == Float32 {
			b.floats[v] = window(rec.Column(colView+v), func(a *array.Float32) []float32 { return a.Float32Values() })
		} else {
			b.views[v] = window(rec.Column(colView+v), func(a *array.Uint8) []uint8 { return a.Uint8Values() })
		}
		b.coords[v] = window(rec.Column(colCoord+v), func(a *array.Float32) []float32 { return a.Float32Values() })
		b.params[v] = viewParams(rec.Column(colParams + v).(*array.Struct))
		if b.views[v] == nil && b.floats[v] == nil || b.coords[v] == nil || b.params[v].order == nil || b.params[v].factors == nil {
			return Batch{}, errors.New("pipeline: the record has lists that are cut short")
		}
	}
	return b, nil
}

// window is the values of a column of fixed-size lists, whose own offset does
// not show in the array that holds them. It is nil if values are missing.
func window[A arrow.Array, T any](lists arrow.Array, values func(A) []T) []T {
	list := lists.(*array.FixedSizeList)
	n := int(list.DataType().(*arrow.FixedSizeListType).Len())
	from := list.Data().Offset() * n
	to := from + list.Len()*n
	switch {
	case list.Len() == 0:
		return []T{}
	case to > list.ListValues().Len():
		return nil
	}
	return values(list.ListValues().(A))[from:to:to]
}

func viewParams(s *array.Struct) paramColumns {
	c := paramColumns{
		flip:      s.Field(paramFlip).(*array.Boolean),
		grayscale: s.Field(paramGrayscale).(*array.Boolean),
		solarize:  s.Field(paramSolarize).(*array.Boolean),
		order:     window(s.Field(paramJitterOrder), func(a *array.Int8) []int8 { return a.Int8Values() }),
		factors:   window(s.Field(paramJitterFactors), func(a *array.Float64) []float64 { return a.Float64Values() }),
		blurSigma: s.Field(paramBlurSigma).(*array.Float64).Float64Values(),
	}
	for i, field := range []int{paramTop, paramLeft, paramHeight, paramWidth} {
		c.rect[i] = s.Field(field).(*array.Int32).Int32Values()
	}
	return c
}

// Len is the number of pairs.
func (b *Batch) Len() int { return b.rows }

// Size is the side of a view in pixels.
func (b *Batch) Size() int { return b.size }

// Index are the rows of the dataset that the pairs were made of.
func (b *Batch) Index() []int64 { return b.index }

// Key is the key of a pair's image.
func (b *Batch) Key(row int) string { return b.keys.Value(row) }

// Labels are the pairs' labels, -1 where unknown.
func (b *Batch) Labels() []int32 { return b.labels }

// Views are the pixels of all first (0) or second (1) views, 0-255:
// Len x 3 x Size x Size. They are nil if the record has Float32 views.
func (b *Batch) Views(v int) []uint8 { return b.views[v] }

// Floats are Views where the record has Float32 views, which are normalised,
// and nil otherwise.
func (b *Batch) Floats(v int) []float32 { return b.floats[v] }

// Coords are where all first (0) or second (1) views lie in their images:
// Len x 4, see augment.Coord.
func (b *Batch) Coords(v int) []float32 { return b.coords[v] }

// Params are the parameters that the first (0) or second (1) view of a pair
// was made with.
func (b *Batch) Params(v, row int) augment.ViewParams {
	c := &b.params[v]
	p := augment.ViewParams{
		Crop: augment.Rect{
			Top:    int(c.rect[0][row]),
			Left:   int(c.rect[1][row]),
			Height: int(c.rect[2][row]),
			Width:  int(c.rect[3][row]),
		},
		Flip:      c.flip.Value(row),
		Grayscale: c.grayscale.Value(row),
		BlurSigma: c.blurSigma[row],
		Solarize:  c.solarize.Value(row),
	}
	for i := range p.Jitter {
		if op := c.order[4*row+i]; op >= 0 {
			p.Jitter[p.Jitters] = augment.Jitter{Op: augment.Op(op), Factor: c.factors[4*row+i]}
			p.Jitters++
		}
	}
	return p
}

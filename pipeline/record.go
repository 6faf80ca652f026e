package pipeline

import (
	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/seed-436d2970/pixpro/augment"
)

// recordBuilder makes records of batches. All columns but the pixels are
// built here, row by row; they are small.
type recordBuilder struct {
	schema *arrow.Schema
	index  *array.Int64Builder
	key    *array.StringBuilder
	label  *array.Int32Builder
	coords [2]*array.FixedSizeListBuilder
	params [2]*array.StructBuilder
}

func newRecordBuilder(mem memory.Allocator, schema *arrow.Schema) *recordBuilder {
	b := &recordBuilder{
		schema: schema,
		index:  array.NewInt64Builder(mem),
		key:    array.NewStringBuilder(mem),
		label:  array.NewInt32Builder(mem),
	}
	for v := range 2 {
		b.coords[v] = array.NewFixedSizeListBuilder(mem, coordType.Len(), coordType.Elem())
		b.params[v] = array.NewStructBuilder(mem, paramsType)
	}
	return b
}

func (b *recordBuilder) release() {
	b.index.Release()
	b.key.Release()
	b.label.Release()
	for v := range 2 {
		b.coords[v].Release()
		b.params[v].Release()
	}
}

// reserve makes room for rows, so that columns do not grow step by step.
func (b *recordBuilder) reserve(rows int) {
	b.index.Reserve(rows)
	b.key.Reserve(rows)
	b.label.Reserve(rows)
	for v := range 2 {
		reserveLists(b.coords[v], rows)
		b.params[v].Reserve(rows)
		for i := range b.params[v].NumField() {
			if list, ok := b.params[v].FieldBuilder(i).(*array.FixedSizeListBuilder); ok {
				reserveLists(list, rows)
			} else {
				b.params[v].FieldBuilder(i).Reserve(rows)
			}
		}
	}
}

func reserveLists(b *array.FixedSizeListBuilder, rows int) {
	b.Reserve(rows)
	b.ValueBuilder().Reserve(rows * int(b.Type().(*arrow.FixedSizeListType).Len()))
}

// build makes the record of the first rows slots of a batch; the pixels stay
// in its slab, which the record then owns. The second views begin stride
// bytes after the first.
func (b *recordBuilder) build(from *batch, rows, stride int) arrow.Record {
	b.reserve(rows)
	for i := range rows {
		s := &from.slots[i]
		b.index.Append(s.sample.Index)
		b.key.Append(s.sample.Key)
		b.label.Append(s.sample.Label)
		for v := range 2 {
			b.coords[v].Append(true)
			b.coords[v].ValueBuilder().(*array.Float32Builder).AppendValues(s.coords[v][:], nil)
			appendParams(b.params[v], &s.params[v])
		}
	}
	columns := [numFields]arrow.Array{
		colIndex: b.index.NewArray(),
		colKey:   b.key.NewArray(),
		colLabel: b.label.NewArray(),
	}
	owner := from.slab.share()
	defer owner.Release()
	for v := range 2 {
		columns[colView+v] = viewColumn(b.schema.Field(colView+v).Type.(*arrow.FixedSizeListType), owner, v*stride, rows)
		columns[colCoord+v] = b.coords[v].NewArray()
		columns[colParams+v] = b.params[v].NewArray()
	}
	for _, c := range columns {
		defer c.Release()
	}
	return array.NewRecord(b.schema, columns[:], int64(rows))
}

// viewColumn is a column of views over the owner's bytes from offset on.
func viewColumn(typ *arrow.FixedSizeListType, owner *memory.Buffer, offset, rows int) arrow.Array {
	n := rows * int(typ.Len())
	pixels := memory.SliceBuffer(owner, offset, n*typ.Elem().(arrow.FixedWidthDataType).Bytes())
	defer pixels.Release()
	values := array.NewData(typ.Elem(), n, []*memory.Buffer{nil, pixels}, nil, 0, 0)
	defer values.Release()
	lists := array.NewData(typ, rows, []*memory.Buffer{nil}, []arrow.ArrayData{values}, 0, 0)
	defer lists.Release()
	return array.NewFixedSizeListData(lists)
}

func appendParams(b *array.StructBuilder, p *augment.ViewParams) {
	b.Append(true)
	int32s := func(field, v int) { b.FieldBuilder(field).(*array.Int32Builder).Append(int32(v)) }
	bools := func(field int, v bool) { b.FieldBuilder(field).(*array.BooleanBuilder).Append(v) }
	int32s(paramTop, p.Crop.Top)
	int32s(paramLeft, p.Crop.Left)
	int32s(paramHeight, p.Crop.Height)
	int32s(paramWidth, p.Crop.Width)
	bools(paramFlip, p.Flip)
	bools(paramGrayscale, p.Grayscale)
	bools(paramSolarize, p.Solarize)
	b.FieldBuilder(paramBlurSigma).(*array.Float64Builder).Append(p.BlurSigma)

	orders := b.FieldBuilder(paramJitterOrder).(*array.FixedSizeListBuilder)
	factors := b.FieldBuilder(paramJitterFactors).(*array.FixedSizeListBuilder)
	orders.Append(true)
	factors.Append(true)
	for i, jitter := range p.Jitter {
		order := int8(-1)
		if i < p.Jitters {
			order = int8(jitter.Op)
		} else {
			jitter.Factor = 0
		}
		orders.ValueBuilder().(*array.Int8Builder).Append(order)
		factors.ValueBuilder().(*array.Float64Builder).Append(jitter.Factor)
	}
}

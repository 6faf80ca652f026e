package shards

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// column is the checked memory of one column of a batch.
type column struct {
	width   int    // bytes an element, or an offset where there are offsets
	offsets []byte // rows+1 offsets into values; nil: values of fixed width
	values  []byte
}

// batch is the checked memory of one record batch.
type batch struct {
	rows    int64
	columns [numColumns]column
}

// layout of the columns' memory.
var layout = [numColumns]struct {
	typeID   byte
	bits     int32 // of an integer, or of the index of the dictionary
	signed   bool
	width    int
	variable bool
}{
	colKey:    {typeID: typeUtf8, width: 4, variable: true},
	colLabel:  {typeID: typeInt, bits: 32, signed: true, width: 4},
	colFormat: {typeID: typeUtf8, bits: 8, signed: true, width: 1},
	colWidth:  {typeID: typeInt, bits: 32, signed: true, width: 4},
	colHeight: {typeID: typeInt, bits: 32, signed: true, width: 4},
	colCRC32C: {typeID: typeInt, bits: 32, width: 4},
	colImage:  {typeID: typeLargeBinary, width: 8, variable: true},
}

// batchReader hands out the nodes and buffers of a record batch, one column
// after the other.
type batchReader struct {
	rows           int64
	nodes, buffers []byte
	body           []byte
}

func newBatchReader(header fbTable, body []byte, columns, buffers int) (batchReader, error) {
	r := batchReader{
		rows:    header.int64(batchRows),
		nodes:   header.structs(batchNodes, nodeSize),
		buffers: header.structs(batchBuffers, bufferSize),
		body:    body,
	}
	_, compressed := header.table(batchCompression)
	switch {
	case compressed:
		return r, errors.New("is compressed")
	case len(r.nodes) != columns*nodeSize || len(r.buffers) != buffers*bufferSize:
		return r, errors.New("does not have the columns of the schema")
	case r.rows < 0 || r.rows > int64(len(body)): // a row takes more than a byte
		return r, fmt.Errorf("cannot have %d rows", r.rows)
	}
	return r, nil
}

// column reads a column without nulls.
func (r *batchReader) column(width int, variable bool) (column, error) {
	length := int64(binary.LittleEndian.Uint64(r.nodes))
	nulls := int64(binary.LittleEndian.Uint64(r.nodes[8:]))
	r.nodes = r.nodes[nodeSize:]
	if length != r.rows || nulls != 0 {
		return column{}, fmt.Errorf("has %d values and %d nulls in %d rows", length, nulls, r.rows)
	}
	r.buffers = r.buffers[bufferSize:] // the validity bitmap, which need not be there
	c := column{width: width}
	var err error
	if variable {
		if c.offsets, err = r.buffer((r.rows + 1) * int64(width)); err != nil {
			return column{}, err
		}
		c.values, err = r.buffer(0)
		return c, err
	}
	c.values, err = r.buffer(r.rows * int64(width))
	return c, err
}

// buffer takes the next buffer, which must have at least need bytes.
func (r *batchReader) buffer(need int64) ([]byte, error) {
	offset := int64(binary.LittleEndian.Uint64(r.buffers))
	length := int64(binary.LittleEndian.Uint64(r.buffers[8:]))
	r.buffers = r.buffers[bufferSize:]
	size := int64(len(r.body))
	if offset < 0 || length < need || offset > size || length > size-offset {
		return nil, errors.New("has a buffer outside of its batch, or one that is too short")
	}
	return r.body[offset : offset+length], nil
}

func (s *shardFile) batch(i int) (batch, error) {
	header, body, err := s.message(s.blocks[i], kindRecordBatch)
	if err != nil {
		return batch{}, err
	}
	numBuffers := 2 * numColumns
	for _, l := range layout {
		if l.variable {
			numBuffers++
		}
	}
	r, err := newBatchReader(header, body, numColumns, numBuffers)
	if err != nil {
		return batch{}, err
	}
	b := batch{rows: r.rows}
	for i, l := range layout {
		if b.columns[i], err = r.column(l.width, l.variable); err != nil {
			return batch{}, fmt.Errorf("column %s %w", shardSchema.Field(i).Name, err)
		}
	}
	return b, nil
}

func (c *column) uint32(row int) uint32 { return binary.LittleEndian.Uint32(c.values[4*row:]) }

// bytes is the value of a column of variable width.
func (c *column) bytes(row int) ([]byte, error) {
	from, to := c.offset(row), c.offset(row+1)
	if from < 0 || to < from || to > int64(len(c.values)) {
		return nil, errors.New("points outside of its batch")
	}
	return c.values[from:to:to], nil
}

func (c *column) offset(i int) int64 {
	if c.width == 4 {
		return int64(int32(binary.LittleEndian.Uint32(c.offsets[4*i:])))
	}
	return int64(binary.LittleEndian.Uint64(c.offsets[8*i:]))
}

// sample reads one row and checks all that can be checked: the row alone,
// without its place in the dataset. What it could read it returns beside the
// error.
func (b *batch) sample(row int, formats []string, classes int) (Sample, error) {
	s, err := b.head(row, formats, classes)
	if err == nil {
		err = s.check()
	}
	return s, err
}

// check compares the image with its checksum.
func (s *Sample) check() error {
	if sum := crc32.Checksum(s.Image, castagnoli); sum != s.CRC32C {
		return fmt.Errorf("checksum of the image is %08x, recorded is %08x", sum, s.CRC32C)
	}
	return nil
}

// head is sample without a look at the image, which lies in the memory map.
func (b *batch) head(row int, formats []string, classes int) (Sample, error) {
	var s Sample
	key, err := b.columns[colKey].bytes(row)
	if err != nil {
		return s, fmt.Errorf("key %w", err)
	}
	s.Key = string(key)
	s.Label = int32(b.columns[colLabel].uint32(row))
	if s.Label < -1 || int(s.Label) >= classes {
		return s, fmt.Errorf("label %d is not one of %d classes", s.Label, classes)
	}
	format := int(int8(b.columns[colFormat].values[row]))
	if format < 0 || format >= len(formats) {
		return s, fmt.Errorf("format %d is not one of %d", format, len(formats))
	}
	s.Format = formats[format]
	s.Width = int32(b.columns[colWidth].uint32(row))
	s.Height = int32(b.columns[colHeight].uint32(row))
	if s.Width <= 0 || s.Height <= 0 {
		return s, fmt.Errorf("size is %d x %d", s.Width, s.Height)
	}
	s.CRC32C = b.columns[colCRC32C].uint32(row)
	if s.Image, err = b.columns[colImage].bytes(row); err != nil {
		return s, fmt.Errorf("image %w", err)
	}
	if len(s.Image) > maxImageBytes {
		return s, fmt.Errorf("the image has %d bytes, the limit is %d", len(s.Image), maxImageBytes)
	}
	return s, nil
}

package shards

import (
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
)

// formatVersion is the version of manifest and shards that this package
// writes and the only one that it reads.
const formatVersion = 1

// maxBatchRows bounds the rows of a record batch, so that reading one row
// touches little.
const maxBatchRows = 64

// columns of a shard, in order.
const (
	colKey = iota
	colLabel
	colFormat
	colWidth
	colHeight
	colCRC32C
	colImage
	numColumns
)

// formats is the dictionary of the format column: the same in every shard.
var formats = []string{"jpeg", "png", "bmp", "gif", "webp"}

var formatType = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}

// shardSchema is what Schema returns; Arrow schemas are immutable.
var shardSchema = func() *arrow.Schema {
	metadata := arrow.MetadataFrom(map[string]string{"pixpro.shard_version": strconv.Itoa(formatVersion)})
	return arrow.NewSchema([]arrow.Field{
		colKey:    {Name: "key", Type: arrow.BinaryTypes.String},
		colLabel:  {Name: "label", Type: arrow.PrimitiveTypes.Int32},
		colFormat: {Name: "format", Type: formatType},
		colWidth:  {Name: "width", Type: arrow.PrimitiveTypes.Int32},
		colHeight: {Name: "height", Type: arrow.PrimitiveTypes.Int32},
		colCRC32C: {Name: "crc32c", Type: arrow.PrimitiveTypes.Uint32},
		colImage:  {Name: "image", Type: arrow.BinaryTypes.LargeBinary},
	}, &metadata)
}()

// Schema returns the Arrow schema of a shard: key (path relative to the input
// folder, with slashes), label (index into the manifest's classes, -1 when
// unknown), format (jpeg, png, bmp, gif, webp), width and height in pixels,
// crc32c (Castagnoli) of the image bytes, and image, the file as it came.
// No column has nulls.
func Schema() *arrow.Schema { return shardSchema }

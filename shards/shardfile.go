package shards

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Numbers of Arrow's metadata: fields of tables in the order of the format's
// File.fbs, Message.fbs and Schema.fbs, and values of its enumerations.
const (
	footerSchema, footerDictionaries, footerRecordBatches = 1, 2, 3

	schemaEndianness, schemaFields = 0, 1

	fieldName, fieldTypeID, fieldType, fieldDictionary = 0, 2, 3, 4

	intBits, intSigned = 0, 1

	dictionaryID, dictionaryIndex = 0, 1

	messageVersion, messageKind, messageHeader, messageBody = 0, 1, 2, 3

	batchRows, batchNodes, batchBuffers, batchCompression = 0, 1, 2, 3

	dictBatchID, dictBatchData, dictBatchDelta = 0, 1, 2

	typeInt, typeUtf8, typeLargeBinary = 2, 5, 19

	metadataV4, metadataV5 = 3, 4

	kindDictionaryBatch, kindRecordBatch = 2, 3

	blockSize, nodeSize, bufferSize = 24, 16, 16 // bytes of these structs
)

var (
	arrowMagic   = []byte("ARROW1")
	continuation = []byte{0xff, 0xff, 0xff, 0xff}
)

// shardFile is a memory-mapped shard: where its record batches are, and the
// values of its format column.
type shardFile struct {
	data    []byte
	formats []string
	blocks  []block
	starts  []int64 // first row of each block
	rows    int64
}

// passedBytes is how much parseShard reads before it says so.
const passedBytes = 16 << 20

// block is a message of the file: metadata and body.
type block struct {
	offset, body int64
	meta         int32
}

func (b block) end() int64 { return b.offset + int64(b.meta) + b.body }

// parseShard reads the metadata of all record batches. Nothing in data is
// trusted; the caller guards against panics. passed, if not nil, is told now
// and then which part of data is not needed for the time being: the metadata of
// tiny images lies all over the file.
func parseShard(data []byte, passed func(from, to int)) (*shardFile, error) {
	// ARROW1 and padding, messages, footer, its length, ARROW1.
	tail := len(data) - 4 - len(arrowMagic)
	if tail < 8 || !bytes.HasPrefix(data, arrowMagic) || !bytes.HasSuffix(data, arrowMagic) {
		return nil, errors.New("not an Arrow file, or cut short")
	}
	size := int64(binary.LittleEndian.Uint32(data[tail:]))
	if size > int64(tail-8) {
		return nil, fmt.Errorf("a footer of %d bytes does not fit in the file", size)
	}
	end := tail - int(size) // of the messages
	footer := fbRoot(data[end:tail])
	dictID, err := checkSchema(footer)
	if err != nil {
		return nil, err
	}
	s := &shardFile{data: data[:end]}
	dictionaries := blocks(footer.structs(footerDictionaries, blockSize))
	if len(dictionaries) != 1 {
		return nil, fmt.Errorf("has %d dictionaries, not one", len(dictionaries))
	}
	if s.formats, err = s.readDictionary(dictionaries[0], dictID); err != nil {
		return nil, fmt.Errorf("dictionary: %w", err)
	}
	s.blocks = blocks(footer.structs(footerRecordBatches, blockSize))
	s.starts = make([]int64, len(s.blocks))
	kept := int64(0) // data before it was passed
	for i := range s.blocks {
		b, err := s.batch(i)
		if err != nil {
			return nil, fmt.Errorf("record batch %d: %w", i, err)
		}
		if i > 0 && s.blocks[i].offset < s.blocks[i-1].end() {
			return nil, fmt.Errorf("record batch %d overlaps the one before", i)
		}
		s.starts[i] = s.rows
		s.rows += b.rows
		if end := s.blocks[i].end(); passed != nil && end-kept >= passedBytes {
			passed(int(kept), int(end))
			kept = end
		}
	}
	return s, nil
}

func blocks(data []byte) []block {
	out := make([]block, len(data)/blockSize)
	for i := range out {
		b := data[i*blockSize:]
		out[i] = block{
			offset: int64(binary.LittleEndian.Uint64(b)),
			meta:   int32(binary.LittleEndian.Uint32(b[8:])),
			body:   int64(binary.LittleEndian.Uint64(b[16:])),
		}
	}
	return out
}

// checkSchema compares the file's schema with Schema, and returns the number
// of the format column's dictionary.
func checkSchema(footer fbTable) (dictID int64, err error) {
	schema, ok := footer.table(footerSchema)
	if !ok {
		return 0, errors.New("has no schema")
	}
	if schema.int16(schemaEndianness) != 0 {
		return 0, errors.New("is big-endian")
	}
	fields := schema.tables(schemaFields, numColumns+1)
	if len(fields) != numColumns {
		return 0, fmt.Errorf("does not have %d columns", numColumns)
	}
	for i, f := range fields {
		want := layout[i]
		intType, hasType := f.table(fieldType)
		ok := hasType && f.string(fieldName) == shardSchema.Field(i).Name && f.byte(fieldTypeID) == want.typeID
		dictionary, encoded := f.table(fieldDictionary)
		ok = ok && encoded == (i == colFormat)
		if ok && encoded {
			dictID = dictionary.int64(dictionaryID)
			intType, ok = dictionary.table(dictionaryIndex)
		}
		if ok && want.bits != 0 {
			ok = intType.int32(intBits) == want.bits && (intType.byte(intSigned) != 0) == want.signed
		}
		if !ok {
			return 0, fmt.Errorf("column %d is not %v", i, shardSchema.Field(i))
		}
	}
	return dictID, nil
}

// message reads the metadata of a message and bounds its body.
func (s *shardFile) message(b block, kind byte) (header fbTable, body []byte, err error) {
	size := int64(len(s.data))
	if b.offset < 8 || b.meta < 8 || b.body < 0 || b.offset > size || int64(b.meta) > size-b.offset || b.body > size-b.offset-int64(b.meta) {
		return fbTable{}, nil, errors.New("lies outside of the file")
	}
	meta := s.data[b.offset : b.offset+int64(b.meta)]
	body = s.data[b.offset+int64(b.meta):][:b.body]
	length := int64(binary.LittleEndian.Uint32(meta[4:]))
	if !bytes.HasPrefix(meta, continuation) || length > int64(len(meta)-8) {
		return fbTable{}, nil, errors.New("is not an Arrow message")
	}
	m := fbRoot(meta[8 : 8+length])
	if v := m.int16(messageVersion); v != metadataV4 && v != metadataV5 {
		return fbTable{}, nil, fmt.Errorf("has metadata version %d", v)
	}
	header, ok := m.table(messageHeader)
	if !ok || m.byte(messageKind) != kind || m.int64(messageBody) != b.body {
		return fbTable{}, nil, errors.New("is not the message that the footer announces")
	}
	return header, body, nil
}

func (s *shardFile) readDictionary(b block, id int64) ([]string, error) {
	header, body, err := s.message(b, kindDictionaryBatch)
	if err != nil {
		return nil, err
	}
	data, ok := header.table(dictBatchData)
	if !ok || header.int64(dictBatchID) != id || header.byte(dictBatchDelta) != 0 {
		return nil, errors.New("is not the one of the format column")
	}
	r, err := newBatchReader(data, body, 1, 3)
	if err != nil {
		return nil, err
	}
	c, err := r.column(4, true)
	if err != nil {
		return nil, err
	}
	if r.rows > int64(len(formats)) {
		return nil, fmt.Errorf("has %d formats, there are %d", r.rows, len(formats))
	}
	out := make([]string, r.rows)
	for i := range out {
		v, err := c.bytes(i)
		if err != nil {
			return nil, err
		}
		if out[i] = string(v); !slices.Contains(formats, out[i]) {
			return nil, fmt.Errorf("has an unknown format %q", v)
		}
	}
	return out, nil
}

// locate finds the record batch of a row, and the row's place in it.
func (s *shardFile) locate(row int64) (block, within int) {
	// The last block that starts at or before the row, past empty ones.
	block = sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > row }) - 1
	return block, int(row - s.starts[block])
}

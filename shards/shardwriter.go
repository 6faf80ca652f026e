package shards

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// maxBatchBytes bounds the image bytes of a record batch of more than one row.
const maxBatchBytes = 16 << 20

// shardWriter writes one shard. The file appears under its name in finish.
type shardWriter struct {
	info    ShardInfo
	out     hashedFile
	ipc     *ipc.FileWriter
	batches rowBatches
}

// rowBatches are the batch that rows are added to and the one before, which
// may still be hashed.
type rowBatches [2]*rowBatch

func newRowBatches() rowBatches { return rowBatches{newRowBatch(), newRowBatch()} }

// shardName is the file name of the n-th shard.
func shardName(n int) string { return fmt.Sprintf("shard-%05d.arrow", n) }

// newShardWriter starts the shard; batches is scratch memory.
func newShardWriter(fsys atomicfile.FS, dir, name string, batches rowBatches) (*shardWriter, error) {
	f, err := atomicfile.CreateOn(fsys, filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	batches[0].reset()
	w := &shardWriter{
		info:    ShardInfo{Name: name},
		out:     hashedFile{file: f, hash: sha256.New()},
		batches: batches,
	}
	if w.ipc, err = ipc.NewFileWriter(&w.out, ipc.WithSchema(shardSchema)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// append adds a row. It does not keep the job's memory.
func (w *shardWriter) append(j *job) error {
	if !w.batches[0].fits(len(j.data)) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.batches[0].append(j)
	w.info.Rows++
	w.info.ImageBytes += int64(len(j.data))
	return nil
}

func (w *shardWriter) flush() error {
	rec := w.batches[0].record()
	defer rec.Release()
	err := w.ipc.Write(rec)
	w.batches[0], w.batches[1] = w.batches[1], w.batches[0]
	w.batches[0].reset()
	return err
}

// finish completes the file and says what it holds.
func (w *shardWriter) finish() (ShardInfo, error) {
	if err := w.flush(); err != nil {
		return ShardInfo{}, err
	}
	if err := w.ipc.Close(); err != nil {
		return ShardInfo{}, err
	}
	w.info.Bytes = w.out.size
	w.info.SHA256 = w.out.sum()
	return w.info, w.out.file.Commit()
}

// discard removes what was written, unless it was finished.
func (w *shardWriter) discard() error {
	w.out.hashing.Wait()
	return w.out.file.Close()
}

// largePiece is what is worth a goroutine.
const largePiece = 64 << 10

// hashedFile computes the SHA-256 of what is written to a file. Large pieces
// are hashed while they are written and after Write has returned, so they must
// stay as they are until the next large one is written or sum is called.
type hashedFile struct {
	file    *atomicfile.File
	hash    hash.Hash
	hashing sync.WaitGroup // at most one goroutine, which has the hash
	small   []byte         // pieces that follow what it hashes
	size    int64
}

func (h *hashedFile) Write(p []byte) (int, error) {
	h.size += int64(len(p))
	switch {
	case len(p) >= largePiece:
		h.catchUp()
		h.hashing.Go(func() { h.hash.Write(p) })
	default:
		h.small = append(h.small, p...)
		if len(h.small) >= largePiece {
			h.catchUp()
		}
	}
	return h.file.Write(p)
}

// catchUp hashes all that was written.
func (h *hashedFile) catchUp() {
	h.hashing.Wait()
	h.hash.Write(h.small)
	h.small = h.small[:0]
}

// sum is the SHA-256 of all that was written, in hexadecimal.
func (h *hashedFile) sum() string {
	h.catchUp()
	return hex.EncodeToString(h.hash.Sum(nil))
}

// Seek only tells the position, which is what Arrow's writer asks for.
func (h *hashedFile) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.ErrUnsupported
	}
	return h.size, nil
}

// rowBatch collects rows as the buffers of one Arrow record batch.
type rowBatch struct {
	rows         int
	keyOffsets   []int32
	keys         []byte
	labels       []int32
	formats      []int8
	widths       []int32
	heights      []int32
	crcs         []uint32
	imageOffsets []int64
	images       []byte
	dictionary   arrow.Array
}

func newRowBatch() *rowBatch {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(formats, nil)
	batch := &rowBatch{dictionary: b.NewArray()}
	batch.reset()
	return batch
}

func (b *rowBatch) reset() {
	b.rows = 0
	b.keyOffsets = append(b.keyOffsets[:0], 0)
	b.keys = b.keys[:0]
	b.labels = b.labels[:0]
	b.formats = b.formats[:0]
	b.widths = b.widths[:0]
	b.heights = b.heights[:0]
	b.crcs = b.crcs[:0]
	b.imageOffsets = append(b.imageOffsets[:0], 0)
	b.images = b.images[:0]
}

// fits reports whether an image of n bytes may join the batch.
func (b *rowBatch) fits(n int) bool {
	return b.rows == 0 || b.rows < maxBatchRows && len(b.images)+n <= maxBatchBytes
}

func (b *rowBatch) append(j *job) {
	b.rows++
	b.keys = append(b.keys, j.Key...)
	b.keyOffsets = append(b.keyOffsets, int32(len(b.keys)))
	b.labels = append(b.labels, j.Label)
	b.formats = append(b.formats, int8(slices.Index(formats, j.header.Format)))
	b.widths = append(b.widths, int32(j.header.Width))
	b.heights = append(b.heights, int32(j.header.Height))
	b.crcs = append(b.crcs, j.crc)
	if need := len(b.images) + len(j.data); need > cap(b.images) && need > 1<<20 {
		// Growing by and by would touch several times the memory.
		b.images = append(make([]byte, 0, max(need, maxBatchBytes)), b.images...)
	}
	b.images = append(b.images, j.data...)
	b.imageOffsets = append(b.imageOffsets, int64(len(b.images)))
}

// record is the batch as Arrow sees it; it is valid until the next append or
// reset.
func (b *rowBatch) record() arrow.Record {
	dictionary := b.dictionary.Data().(*array.Data)
	data := [numColumns]arrow.ArrayData{
		colKey:    b.column(colKey, arrow.Int32Traits.CastToBytes(b.keyOffsets), b.keys),
		colLabel:  b.column(colLabel, arrow.Int32Traits.CastToBytes(b.labels)),
		colFormat: array.NewDataWithDictionary(formatType, b.rows, buffers(arrow.Int8Traits.CastToBytes(b.formats)), 0, 0, dictionary),
		colWidth:  b.column(colWidth, arrow.Int32Traits.CastToBytes(b.widths)),
		colHeight: b.column(colHeight, arrow.Int32Traits.CastToBytes(b.heights)),
		colCRC32C: b.column(colCRC32C, arrow.Uint32Traits.CastToBytes(b.crcs)),
		colImage:  b.column(colImage, arrow.Int64Traits.CastToBytes(b.imageOffsets), b.images),
	}
	var columns [numColumns]arrow.Array
	for i, d := range data {
		columns[i] = array.MakeFromData(d)
		d.Release()
		defer columns[i].Release()
	}
	return array.NewRecord(shardSchema, columns[:], int64(b.rows))
}

func (b *rowBatch) column(i int, values ...[]byte) arrow.ArrayData {
	return array.NewData(shardSchema.Field(i).Type, b.rows, buffers(values...), nil, 0, 0)
}

// buffers are the buffers of a column without nulls.
func buffers(values ...[]byte) []*memory.Buffer {
	out := make([]*memory.Buffer, 1, 3)
	for _, v := range values {
		out = append(out, memory.NewBufferBytes(v))
	}
	return out
}

package shards

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// Sample is one row of a dataset.
type Sample struct {
	Index  int64  // row in the dataset
	Key    string // path relative to the folder it came from
	Label  int32  // index into the classes, -1 when unknown
	Format string // jpeg, png, bmp, gif, webp
	Width  int32  // pixels, as the image's header says
	Height int32
	CRC32C uint32 // Castagnoli, of Image
	Image  []byte // encoded: the caller's, until it gives it to Dataset.Forget

	buffer *[]byte // that Image lies in
}

// Dataset is an open folder of shards. Its methods are safe to call from
// several goroutines; Close must come after all else.
type Dataset struct {
	manifest Manifest
	shards   []*shard
	starts   []int64 // first row of each shard
	closed   atomic.Bool
	used     atomic.Int64 // bytes of images that were copied lately
}

// shard maps its file at first use, so that opening a large dataset is quick.
type shard struct {
	path    string
	info    ShardInfo
	classes int

	once   sync.Once
	mapped atomic.Bool // once is done, and there is no err
	data   []byte
	then   os.FileInfo // of the file when it was mapped
	file   *shardFile
	err    error
}

// Open opens the shard folder dir. It checks that the manifest is sound and
// that the shards are there with the right size; their content is checked
// when it is read.
func Open(dir string) (*Dataset, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	d := &Dataset{manifest: m}
	var rows int64
	for _, info := range m.Shards {
		path := filepath.Join(dir, info.Name)
		stat, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("shards: a shard of the manifest: %w", err)
		}
		if stat.Size() != info.Bytes {
			return nil, errSize(info, stat.Size()).withRemedy()
		}
		d.shards = append(d.shards, &shard{path: path, info: info, classes: len(m.Classes)})
		d.starts = append(d.starts, rows)
		rows += info.Rows
	}
	return d, nil
}

func errSize(info ShardInfo, size int64) *CorruptError {
	return &CorruptError{Shard: info.Name, Row: -1, Reason: fmt.Sprintf("has %d bytes, the manifest says %d", size, info.Bytes)}
}

func errRows(info ShardInfo, rows int64) *CorruptError {
	return &CorruptError{Shard: info.Name, Row: -1, Reason: fmt.Sprintf("has %d rows, the manifest says %d", rows, info.Rows)}
}

// Len is the number of samples.
func (d *Dataset) Len() int64 { return d.manifest.Rows }

// ShardRows are the numbers of rows of the shards, in order.
func (d *Dataset) ShardRows() []int64 {
	rows := make([]int64, len(d.manifest.Shards))
	for i, s := range d.manifest.Shards {
		rows[i] = s.Rows
	}
	return rows
}

// Classes are the names of the labels, from 0.
func (d *Dataset) Classes() []string { return slices.Clone(d.manifest.Classes) }

// Manifest is what the dataset consists of.
func (d *Dataset) Manifest() Manifest {
	m := d.manifest
	m.Classes = slices.Clone(m.Classes)
	m.Shards = slices.Clone(m.Shards)
	if m.Sharding != nil {
		s := *m.Sharding
		m.Sharding = &s
	}
	return m
}

// Digest tells datasets apart: a SHA-256 over those of the shards, in hex.
func (d *Dataset) Digest() string {
	sum := sha256.New()
	for _, s := range d.manifest.Shards {
		fmt.Fprintln(sum, s.SHA256)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Sample reads sample i, counted from 0 in the order of the manifest, and
// checks its checksum. Damaged data is a *CorruptError, a shard that is no longer
// the one that was opened a *ChangedError, one that the disk does not give of class
// ErrUnreadable.
func (d *Dataset) Sample(i int64) (Sample, error) {
	if d.closed.Load() {
		return Sample{}, fmt.Errorf("shards: sample %d: %w", i, os.ErrClosed)
	}
	if i < 0 || i >= d.manifest.Rows {
		return Sample{}, fmt.Errorf("shards: there is no sample %d among %d", i, d.manifest.Rows)
	}
	n, row := d.locate(i)
	sample, err := d.shards[n].sample(row)
	if err != nil {
		return Sample{}, err
	}
	d.copied(int64(len(sample.Image)))
	sample.Index = i
	return sample, nil
}

// locate finds the shard of sample i, and the sample's row in it.
func (d *Dataset) locate(i int64) (shard int, row int64) {
	shard = sort.Search(len(d.starts), func(n int) bool { return d.starts[n] > i }) - 1
	return shard, i - d.starts[shard]
}

// Close unmaps the shards.
func (d *Dataset) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, s := range d.shards {
		errs = append(errs, unmapFile(s.data))
		s.data, s.file = nil, nil
	}
	return errors.Join(errs...)
}

// open maps the file and reads its metadata.
func (s *shard) open() error {
	data, then, err := mapFile(s.path)
	if err != nil {
		return fmt.Errorf("shards: %w", err)
	}
	s.data, s.then = data, then
	if int64(len(data)) != s.info.Bytes { // as it had when the dataset was opened
		return &ChangedError{Shard: s.info.Name, Then: s.info.Bytes, Now: int64(len(data))}
	}
	err = guard(func() (err error) {
		s.file, err = parseShard(data, func(from, to int) { forget(data, from, to) })
		return err
	})
	if err != nil {
		return s.fault(-1, "", err)
	}
	if s.file.rows != s.info.Rows {
		return errRows(s.info, s.file.rows).withRemedy()
	}
	return nil
}

// ready opens the shard at its first use.
func (s *shard) ready() error {
	s.once.Do(func() {
		s.err = s.guarded(s.open)
		s.mapped.Store(s.err == nil)
	})
	return s.err
}

// guarded runs read, which looks at the memory map. A disk that fails
// meanwhile is an error, not the end of the process.
func (s *shard) guarded(read func() error) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return guard(read)
}

// fault is the error of what could not be read: of the whole shard, which has
// changed or which the disk does not give, or else of a row.
func (s *shard) fault(row int64, key string, reason error) error {
	if err := changed(s.path, s.then); err != nil {
		return err
	}
	if errors.Is(reason, ErrUnreadable) {
		place := s.info.Name
		if row >= 0 {
			place = fmt.Sprintf("%s: row %d", place, row)
		}
		return fmt.Errorf("shards: %s %w (bring the shard from where it is whole; pixpro verify checks it)", place, reason)
	}
	e := &CorruptError{Shard: s.info.Name, Row: row, Key: key, Reason: reason.Error()}
	return e.withRemedy()
}

// sample reads a row. The image is copied out of the memory map: a file that is
// cut short later must not take the decoder, which may be a C library, with it.
func (s *shard) sample(row int64) (sample Sample, err error) {
	if err := s.ready(); err != nil {
		return Sample{}, err
	}
	err = s.guarded(func() error {
		n, within := s.file.locate(row)
		b, err := s.file.batch(n)
		if err != nil {
			return err
		}
		if sample, err = b.head(within, s.file.formats, s.classes); err != nil {
			return err
		}
		sample.copyImage()
		return sample.check()
	})
	if err != nil {
		key := sample.Key
		sample.free()
		return Sample{}, s.fault(row, key, err)
	}
	return sample, nil
}

// imageBuffers are what images lie in that nobody needs any more.
var imageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// keptBuffer is the largest buffer that is kept for other images.
const keptBuffer = 4 << 20

// copyImage makes the image memory of its own.
func (s *Sample) copyImage() {
	s.buffer = imageBuffers.Get().(*[]byte)
	*s.buffer = append((*s.buffer)[:0], s.Image...)
	s.Image = *s.buffer
}

// free gives the image's memory to other images.
func (s *Sample) free() {
	if s.buffer != nil && cap(*s.buffer) <= keptBuffer {
		imageBuffers.Put(s.buffer)
	}
	s.Image, s.buffer = nil, nil
}

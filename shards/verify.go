package shards

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/decoding"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Shards int             `json:"shards"`
	Rows   int64           `json:"rows"`  // that could be read
	Bytes  int64           `json:"bytes"` // of the shards
	Faults []*CorruptError `json:"faults"`
}

// VerifyProgress is how far Verify has come.
type VerifyProgress struct {
	Bytes, TotalBytes int64
	Faults            int
}

// VerifyConfig says how Verify works. The zero value is ready.
type VerifyConfig struct {
	// Deep decodes every image, too.
	Deep bool
	// Limits are those of images that are decoded; one beyond them is a fault.
	Limits decode.Limits
	// Listener is told of VerifyProgress.
	Listener Listener
}

// Verify checks the shard folder dir: the manifest, and for every shard its
// size, its SHA-256, the number of its rows and every row's content and
// checksum. It reports all faults it finds, in order; the error says why it
// could not do its work. Shards are read on all cores, and what was read is
// not kept in memory.
func Verify(ctx context.Context, dir string, cfg VerifyConfig) (VerifyReport, error) {
	if err := cfg.Limits.Validate(); err != nil {
		return VerifyReport{}, fmt.Errorf("shards: verify: Limits: %w", err)
	}
	m, err := ReadManifest(dir)
	if err != nil {
		return VerifyReport{}, err
	}
	v := &verifier{dir: dir, manifest: m, listen: cfg.Listener}
	if cfg.Deep {
		v.decoders = newDecoders(cpu.Cores(), cfg.Limits)
	}
	for _, s := range m.Shards {
		v.done.TotalBytes += s.Bytes
	}
	type result struct {
		rows, bytes int64
		faults      []*CorruptError
	}
	results := make([]result, len(m.Shards))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cpu.Cores())
	for i, info := range m.Shards {
		g.Go(func() error {
			r := &results[i]
			var err error
			r.rows, r.bytes, r.faults, err = v.shard(ctx, info)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return VerifyReport{}, fmt.Errorf("shards: verify %s: %w", dir, err)
	}
	report := VerifyReport{Shards: len(m.Shards), Faults: []*CorruptError{}}
	for _, r := range results {
		report.Rows += r.rows
		report.Bytes += r.bytes
		report.Faults = append(report.Faults, r.faults...)
	}
	return report, nil
}

type verifier struct {
	dir      string
	manifest Manifest
	decoders decoders // nil: images are not decoded

	mu     sync.Mutex
	done   VerifyProgress
	listen Listener
}

// shard checks one shard against the manifest.
func (v *verifier) shard(ctx context.Context, info ShardInfo) (rows, size int64, faults []*CorruptError, err error) {
	got, inside, err := checkShard(ctx, v.dir, info.Name, shardCheck{
		classes:  len(v.manifest.Classes),
		visit:    func(Sample) { rows++ },
		read:     v.advance,
		decoders: v.decoders,
	})
	whole := func(format string, args ...any) {
		faults = append(faults, &CorruptError{Shard: info.Name, Row: -1, Reason: fmt.Sprintf(format, args...)})
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		whole("is missing")
	case err != nil:
		return 0, 0, nil, err
	default:
		if got.Bytes != info.Bytes {
			faults = append(faults, errSize(info, got.Bytes))
		}
		if got.SHA256 != info.SHA256 {
			whole("SHA-256 is %s, the manifest says %s", got.SHA256, info.SHA256)
		}
		if got.Rows != info.Rows {
			faults = append(faults, errRows(info, got.Rows))
		}
		faults = append(faults, inside...)
	}
	v.found(len(faults))
	return rows, got.Bytes, faults, nil
}

func (v *verifier) found(faults int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done.Faults += faults
	v.report()
}

func (v *verifier) advance(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done.Bytes += n
	v.report()
}

func (v *verifier) report() {
	v.listen.Tell(v.done)
}

// shardCheck says what checkShard looks for.
type shardCheck struct {
	classes  int
	visit    func(Sample)  // called for every sound row, in order
	read     func(n int64) // told of bytes that were read; may be nil
	decoders decoders      // nil: images are not decoded
}

// checkShard reads a whole shard, once, from begin to end. It returns what the
// file is, what is wrong with its content, and an error if it could not be
// read, was written to meanwhile, or the context was cancelled.
func checkShard(ctx context.Context, dir, name string, check shardCheck) (info ShardInfo, faults []*CorruptError, err error) {
	info.Name = name
	path := filepath.Join(dir, name)
	data, then, err := mapFile(path)
	if err != nil {
		return info, nil, err
	}
	defer unmapFile(data)
	defer func() {
		if err != nil || len(faults) > 0 {
			if change := changed(path, then); change != nil {
				faults, err = nil, change
			}
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	info.Bytes = int64(len(data))
	sum := mapHash{data: data, hash: sha256.New(), read: check.read}

	fault := func(row int64, key string, err error) {
		faults = append(faults, &CorruptError{Shard: name, Row: row, Key: key, Reason: err.Error()})
	}
	unneeded := func(from, to int) { forget(data, from, to) }
	file := &shardFile{}
	if err := guard(func() (err error) { file, err = parseShard(data, unneeded); return err }); err != nil {
		fault(-1, "", err)
		file = &shardFile{}
	}
	info.Rows = file.rows
	for i, b := range file.blocks {
		// Hashing brings the batch into the caches for what follows.
		if err := sum.to(ctx, int(b.end())); err != nil {
			return info, nil, fmt.Errorf("%s: %w", name, err)
		}
		var bad []rowFault
		err := guard(func() (err error) {
			bad, err = checkBatch(ctx, file, i, check, &info)
			return err
		})
		if ctx.Err() != nil {
			return info, nil, ctx.Err()
		}
		for _, f := range bad {
			fault(file.starts[i]+f.row, f.key, f.err)
		}
		if err != nil {
			fault(file.starts[i], "", err)
		}
		unneeded(int(b.offset), int(b.end()))
	}
	if err := sum.to(ctx, len(data)); err != nil {
		return info, nil, fmt.Errorf("%s: %w", name, err)
	}
	info.SHA256 = hex.EncodeToString(sum.hash.Sum(nil))
	return info, faults, nil
}

// rowFault is a fault of a row of a record batch.
type rowFault struct {
	row int64
	key string
	err error
}

// checkBatch checks all rows of a record batch.
func checkBatch(ctx context.Context, file *shardFile, n int, check shardCheck, info *ShardInfo) ([]rowFault, error) {
	batch, err := file.batch(n)
	if err != nil {
		return nil, err
	}
	var faults []rowFault
	var sound []Sample // that are to be decoded; Index is the row in the batch
	for row := range int(batch.rows) {
		s, err := batch.sample(row, file.formats, check.classes)
		if err != nil {
			faults = append(faults, rowFault{int64(row), s.Key, err})
			continue
		}
		info.ImageBytes += int64(len(s.Image))
		check.visit(s)
		if check.decoders != nil {
			s.Index = int64(row)
			sound = append(sound, s)
		}
	}
	for i, err := range check.decoders.decode(ctx, sound) {
		if err != nil {
			faults = append(faults, rowFault{sound[i].Index, sound[i].Key, err})
		}
	}
	slices.SortStableFunc(faults, func(a, b rowFault) int { return cmp.Compare(a.row, b.row) })
	return faults, nil
}

// mapHash computes the SHA-256 of a memory map from begin to end.
type mapHash struct {
	data []byte
	hash hash.Hash
	done int
	read func(n int64)
}

// to goes on to byte end, if it is not there yet.
func (h *mapHash) to(ctx context.Context, end int) error {
	const chunk = 1 << 20
	return guard(func() error {
		for h.done < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			from, to := h.done, min(h.done+chunk, end)
			populate(h.data, from, to)
			h.hash.Write(h.data[from:to])
			h.done = to
			if h.read != nil {
				h.read(int64(to - from))
			}
		}
		return nil
	})
}

// decoders decode images for Verify, as many at the same time as there are.
type decoders chan *decoding.Worker

func newDecoders(n int, limits decode.Limits) decoders {
	d := make(decoders, n)
	memory := decoding.NewMemory(decodedBytes)
	for range n {
		w := decoding.NewWorker(memory, limits)
		w.Copy = true // out of the memory map: see shard.sample
		d <- w
	}
	return d
}

// decode returns what is wrong with the samples' images, nil where nothing
// is.
func (d decoders) decode(ctx context.Context, samples []Sample) []error {
	errs := make([]error, len(samples))
	var wg sync.WaitGroup
	for i := range samples {
		free := <-d
		wg.Go(func() {
			defer func() { d <- free }()
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			errs[i] = guard(func() error { return decodes(ctx, free, samples[i]) })
		})
	}
	wg.Wait()
	return errs
}

// decodes decodes a sample's image and compares it with what is recorded.
func decodes(ctx context.Context, d *decoding.Worker, s Sample) error {
	h, err := decode.ReadHeader(s.Image)
	if err != nil {
		return err
	}
	if h.Format != s.Format || h.Width != int(s.Width) || h.Height != int(s.Height) {
		return fmt.Errorf("the image is %s of %d x %d pixels, recorded is %s of %d x %d", h.Format, h.Width, h.Height, s.Format, s.Width, s.Height)
	}
	return d.Decode(ctx, s.Image, 1, nil)
}

package shards

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/errgroup"
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

// Verify checks the shard folder dir: the manifest, and for every shard its
// size, its SHA-256, the number of its rows and every row's content and
// checksum. It reports all faults it finds, in order; the error says why it
// could not do its work. Shards are read on all cores, and what was read is
// not kept in memory. progress may be nil; calls of it do not overlap.
func Verify(ctx context.Context, dir string, progress func(VerifyProgress)) (VerifyReport, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return VerifyReport{}, err
	}
	v := &verifier{dir: dir, manifest: m, progress: progress}
	for _, s := range m.Shards {
		v.done.TotalBytes += s.Bytes
	}
	type result struct {
		rows, bytes int64
		faults      []*CorruptError
	}
	results := make([]result, len(m.Shards))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
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

	mu       sync.Mutex
	done     VerifyProgress
	progress func(VerifyProgress)
}

// shard checks one shard against the manifest.
func (v *verifier) shard(ctx context.Context, info ShardInfo) (rows, size int64, faults []*CorruptError, err error) {
	got, inside, err := checkShard(ctx, v.dir, info.Name, len(v.manifest.Classes), func(Sample) { rows++ }, v.advance)
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
	if v.progress != nil {
		v.progress(v.done)
	}
}

// checkShard reads a whole shard. It returns what the file is, what is wrong
// with its content, and an error if it could not be read or the context was
// cancelled. visit is called for every sound row in order, read while the file
// is read.
func checkShard(ctx context.Context, dir, name string, classes int, visit func(Sample), read func(n int64)) (ShardInfo, []*CorruptError, error) {
	info := ShardInfo{Name: name}
	data, err := mapFile(filepath.Join(dir, name))
	if err != nil {
		return info, nil, err
	}
	defer unmapFile(data)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	info.Bytes = int64(len(data))
	if info.SHA256, err = hashMapped(ctx, data, read); err != nil {
		return info, nil, fmt.Errorf("%s: %w", name, err)
	}

	var faults []*CorruptError
	fault := func(row int64, key string, err error) {
		faults = append(faults, &CorruptError{Shard: name, Row: row, Key: key, Reason: err.Error()})
	}
	var file *shardFile
	if err := guard(func() (err error) { file, err = parseShard(data); return err }); err != nil {
		fault(-1, "", err)
		return info, faults, nil
	}
	info.Rows = file.rows
	for i, b := range file.blocks {
		if err := ctx.Err(); err != nil {
			return info, nil, err
		}
		err := guard(func() error {
			batch, err := file.batch(i)
			if err != nil {
				return err
			}
			for row := range int(batch.rows) {
				s, err := batch.sample(row, file.formats, classes)
				if err != nil {
					fault(file.starts[i]+int64(row), s.Key, err)
					continue
				}
				info.ImageBytes += int64(len(s.Image))
				visit(s)
			}
			return nil
		})
		if err != nil {
			fault(file.starts[i], "", err)
		}
		forget(data, int(b.offset), int(b.end()))
	}
	return info, faults, nil
}

// hashMapped returns the SHA-256 of data.
func hashMapped(ctx context.Context, data []byte, read func(n int64)) (string, error) {
	const chunk = 1 << 20
	h := sha256.New()
	err := guard(func() error {
		for from := 0; from < len(data); from += chunk {
			if err := ctx.Err(); err != nil {
				return err
			}
			to := min(from+chunk, len(data))
			h.Write(data[from:to])
			forget(data, from, to)
			read(int64(to - from))
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

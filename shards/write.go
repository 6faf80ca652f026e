package shards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

const (
	defaultShardSize = 256 << 20
	rejectedName     = "rejected.jsonl"
)

// WriteConfig says what Write does.
type WriteConfig struct {
	In        string // folder of images; the class is the first folder below it
	Out       string // folder of shards, made if need be
	ShardSize int64  // image bytes a shard, at most (but one image at least); 0: 256 MiB
	Workers   int    // files read at once; 0: GOMAXPROCS
	Resume    bool   // continue what an interrupted Write left in Out

	// Progress, if not nil, is called from one goroutine after every file.
	Progress func(WriteProgress)
}

// Validate says which field cannot be used.
func (c *WriteConfig) Validate() error {
	switch {
	case c.In == "":
		return errors.New("shards: In: a folder of images is needed")
	case c.Out == "":
		return errors.New("shards: Out: a folder to write to is needed")
	case c.ShardSize < 0 || c.ShardSize > math.MaxInt64/2:
		return fmt.Errorf("shards: ShardSize is %d, must be a positive number of bytes", c.ShardSize)
	case c.Workers < 0:
		return fmt.Errorf("shards: Workers is %d, must not be negative", c.Workers)
	}
	return nil
}

// WriteReport counts what Write did with the input.
type WriteReport struct {
	Rows     int64 `json:"rows"`        // images in the dataset
	Bytes    int64 `json:"image_bytes"` // of these images
	Rejected int64 `json:"rejected"`    // named like images but unusable; listed in rejected.jsonl
	Skipped  int64 `json:"skipped"`     // not images, and not named like images
	Shards   int   `json:"shards"`
	Kept     int   `json:"kept_shards"` // of them, finished by an earlier run
}

// WriteProgress is how far Write has come.
type WriteProgress struct {
	Files, TotalFiles int64 // looked at, of those in the input folder
	WriteReport
}

// rejection is a line of rejected.jsonl.
type rejection struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// Write turns a folder of images into shards named shard-00000.arrow and so
// on, in the order of their keys. The same input and ShardSize give the same
// bytes whatever Workers is. The content decides what is an image. A file
// that is none is skipped or, if its name says that it should be one, listed
// in rejected.jsonl.
//
// Out must be empty, unless Resume is set: then shards that an interrupted run
// with the same input and ShardSize finished are checked and kept.
//
// Memory stays below 512 MiB, apart from the list of files: their names and
// 24 bytes each.
func Write(ctx context.Context, cfg WriteConfig) (Manifest, WriteReport, error) {
	if err := cfg.Validate(); err != nil {
		return Manifest{}, WriteReport{}, err
	}
	if cfg.ShardSize == 0 {
		cfg.ShardSize = defaultShardSize
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	w := &writer{cfg: cfg, batch: newRowBatch()}
	m, err := w.run(ctx)
	if err != nil {
		return Manifest{}, w.report, fmt.Errorf("shards: write %s: %w", cfg.Out, err)
	}
	return m, w.report, nil
}

// writer is one call of Write.
type writer struct {
	cfg      WriteConfig
	manifest Manifest
	report   WriteReport
	total    int64 // files in the input
	files    int64 // of them, done

	state    state
	batch    *rowBatch
	shard    *shardWriter     // being written, or nil
	rejected *atomicfile.File // rejected.jsonl, or nil
	first    *rejection
	mustFail int64 // the next files that an earlier run rejected or skipped
}

func (w *writer) run(ctx context.Context) (Manifest, error) {
	m, done, err := w.finished()
	if err != nil || done {
		return m, err
	}
	list, err := listFolder(ctx, w.cfg.In, w.cfg.Out)
	if err != nil {
		return Manifest{}, err
	}
	w.manifest = Manifest{Version: formatVersion, Classes: list.classes}
	if w.manifest.Classes == nil {
		w.manifest.Classes = []string{} // JSON's [] and not null
	}
	w.total = int64(len(list.files))
	w.report.Skipped = list.skipped

	files, err := w.begin(ctx, list)
	if err != nil {
		return Manifest{}, err
	}
	err = w.writeShards(ctx, files)
	if err == nil && w.manifest.Rows == 0 {
		err = w.errNoImages()
	}
	if err != nil {
		return Manifest{}, errors.Join(err, w.discard())
	}
	if w.rejected != nil {
		if err := w.rejected.Commit(); err != nil {
			return Manifest{}, err
		}
	}
	if err := w.manifest.write(w.cfg.Out); err != nil {
		return Manifest{}, err
	}
	return w.manifest, removeState(w.cfg.Out)
}

// finished checks that Out may be written to, and returns its manifest if a
// resumed run has nothing left to do.
func (w *writer) finished() (m Manifest, done bool, err error) {
	entries, err := os.ReadDir(w.cfg.Out)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return Manifest{}, false, nil
	}
	if err != nil {
		return Manifest{}, false, err
	}
	if !w.cfg.Resume {
		return Manifest{}, false, errors.New("the folder is not empty: name an empty one, or resume an interrupted run (pixpro shard --resume)")
	}
	m, err = readManifest(w.cfg.Out)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, false, nil
	}
	if err != nil {
		return Manifest{}, false, err
	}
	w.report = WriteReport{Rows: m.Rows, Bytes: m.ImageBytes, Shards: len(m.Shards), Kept: len(m.Shards)}
	return m, true, removeState(w.cfg.Out)
}

// begin records the run's settings in Out, or, resuming one, keeps its
// finished shards. It returns the files that are still to be read.
func (w *writer) begin(ctx context.Context, list *listing) ([]file, error) {
	w.state = state{Version: formatVersion, ShardSize: w.cfg.ShardSize, Files: int64(len(list.files)), Listing: list.digest()}
	entries, err := os.ReadDir(w.cfg.Out)
	if err == nil && len(entries) > 0 {
		before, err := readState(w.cfg.Out)
		if err != nil {
			return nil, err
		}
		if err := w.state.continues(before); err != nil {
			return nil, err
		}
		return w.keepShards(ctx, before.Shards, list)
	}
	if err := os.MkdirAll(w.cfg.Out, 0o777); err != nil {
		return nil, err
	}
	return list.files, w.state.write(w.cfg.Out)
}

// writeShards reads the files in order and writes all that are images.
func (w *writer) writeShards(ctx context.Context, files []file) error {
	ctx, cancel := context.WithCancel(ctx)
	ahead := newReadAhead(ctx, w.cfg.In, files, w.cfg.Workers)
	defer ahead.wait()
	defer cancel()
	for {
		j, err := ahead.next(ctx)
		if err != nil {
			return err
		}
		if j == nil {
			break
		}
		if err := w.add(j); err != nil {
			return err
		}
		ahead.release(j)
		w.files++
		if w.cfg.Progress != nil {
			w.cfg.Progress(WriteProgress{Files: w.files, TotalFiles: w.total, WriteReport: w.report})
		}
	}
	return w.finishShard()
}

// add puts one file where it belongs.
func (w *writer) add(j *job) error {
	if w.mustFail > 0 {
		w.mustFail--
		if j.err == nil {
			return fmt.Errorf("%s has changed since the interrupted run: write to an empty folder", j.key)
		}
	}
	var reject *rejectError
	switch {
	case j.err == errNotImage:
		w.report.Skipped++
		return nil
	case errors.As(j.err, &reject):
		return w.reject(rejection{Key: j.key, Reason: reject.reason})
	case j.err != nil:
		return j.err
	case !slices.Contains(formats, j.header.Format):
		return w.reject(rejection{Key: j.key, Reason: "the format " + j.header.Format + " is not stored"})
	}
	if w.shard != nil && w.shard.info.ImageBytes+int64(len(j.data)) > w.cfg.ShardSize {
		if err := w.finishShard(); err != nil {
			return err
		}
	}
	if w.shard == nil {
		var err error
		if w.shard, err = newShardWriter(w.cfg.Out, shardName(len(w.manifest.Shards)), w.batch); err != nil {
			return err
		}
	}
	w.report.Rows++
	w.report.Bytes += int64(len(j.data))
	return w.shard.append(j)
}

func (w *writer) reject(r rejection) error {
	if w.rejected == nil {
		var err error
		if w.rejected, err = atomicfile.Create(filepath.Join(w.cfg.Out, rejectedName)); err != nil {
			return err
		}
		w.first = &r
	}
	w.report.Rejected++
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	_, err := w.rejected.Write(line.Bytes())
	return err
}

func (w *writer) finishShard() error {
	if w.shard == nil {
		return nil
	}
	info, err := w.shard.finish()
	if err != nil {
		return err
	}
	w.shard = nil
	w.addShard(info)
	return w.state.write(w.cfg.Out)
}

func (w *writer) addShard(info ShardInfo) {
	w.manifest.Shards = append(w.manifest.Shards, info)
	w.state.Shards = w.manifest.Shards
	w.manifest.Rows += info.Rows
	w.manifest.ImageBytes += info.ImageBytes
	w.report.Shards++
}

// discard removes what is half written. The folder is then empty or can be
// resumed.
func (w *writer) discard() error {
	var err error
	if w.shard != nil {
		err = w.shard.discard()
	}
	if w.rejected != nil {
		err = errors.Join(err, w.rejected.Close())
	}
	if len(w.state.Shards) == 0 {
		err = errors.Join(err, removeState(w.cfg.Out))
	}
	return err
}

func (w *writer) errNoImages() error {
	msg := fmt.Sprintf("no images in %s (%d files skipped, %d rejected", w.cfg.In, w.report.Skipped, w.report.Rejected)
	if w.first != nil {
		msg += fmt.Sprintf("; the first: %s: %s", w.first.Key, w.first.Reason)
	}
	return errors.New(msg + ")")
}

package shards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

const (
	defaultShardSize = 256 << 20
	rejectedName     = "rejected.jsonl"
)

// Check is how closely images are looked at before they are stored.
type Check string

const (
	CheckHeader Check = "header" // the header is sound; the default
	CheckDecode Check = "decode" // every pixel can be decoded
)

// Order is the order of the images in a dataset.
type Order string

const (
	OrderPath    Order = "path"    // sorted by key; the default
	OrderShuffle Order = "shuffle" // mixed, the same for the same seed
)

// defaultMaxBad is the share of bad images that Write accepts.
const defaultMaxBad = 0.01

// WriteConfig says what Write does.
type WriteConfig struct {
	In     string   // of images, of a kind that package ingest knows; archives also compressed
	MoreIn []string // further inputs
	Format string   // of the inputs: one of ingest.Formats; "": found by content
	Labels string   // file with the labels of the inputs; "": as the inputs have them

	Out       string // folder of shards, made if need be
	ShardSize int64  // image bytes a shard, at most (but one image at least); 0: 256 MiB
	Order     Order  // "": OrderPath
	Seed      uint64 // of OrderShuffle
	MaxSide   int    // longer sides are shrunk to so many pixels, as JPEGs; 0: images stay as they came

	Check Check // "": CheckHeader
	// Limits are those of images that are decoded, for CheckDecode or MaxSide; one
	// beyond them is bad.
	Limits decode.Limits
	MaxBad float64 // share of bad files among images that ends the run; 0: 1 %, negative: none may be

	Workers int  // files read at once; 0: one a core
	Resume  bool // continue what an interrupted Write left in Out
	// Wait is how long to wait for another writer of Out to end. 0: not at all.
	Wait time.Duration

	// Listener is told of WriteProgress after every file.
	Listener Listener

	fs atomicfile.FS // nil: the system's
}

// Validate says which field cannot be used.
func (c *WriteConfig) Validate() error {
	switch {
	case c.In == "" || slices.Contains(c.MoreIn, ""):
		return errors.New("shards: In: a folder or an archive of images is needed")
	case len(c.MoreIn) >= math.MaxUint16:
		return fmt.Errorf("shards: MoreIn: %d inputs are too many", len(c.MoreIn))
	case ingest.Check(c.Format) != nil:
		return fmt.Errorf("shards: Format is %q, must be one of %s", c.Format, strings.Join(ingest.Formats(), ", "))
	case c.Out == "":
		return errors.New("shards: Out: a folder to write to is needed")
	case c.ShardSize < 0 || c.ShardSize > math.MaxInt64/2:
		return fmt.Errorf("shards: ShardSize is %d, must be a positive number of bytes", c.ShardSize)
	case c.Order != "" && c.Order != OrderPath && c.Order != OrderShuffle:
		return fmt.Errorf("shards: Order is %q, must be %s or %s", c.Order, OrderPath, OrderShuffle)
	case c.Order != OrderShuffle && c.Seed != 0:
		return fmt.Errorf("shards: Seed is %d, which only Order %s uses", c.Seed, OrderShuffle)
	case c.MaxSide < 0 || c.MaxSide > 1<<16-1: // the largest JPEG
		return fmt.Errorf("shards: MaxSide is %d, must be from 1 to 65535 pixels, or 0", c.MaxSide)
	case c.Check != "" && c.Check != CheckHeader && c.Check != CheckDecode:
		return fmt.Errorf("shards: Check is %q, must be %s or %s", c.Check, CheckHeader, CheckDecode)
	case c.Limits.Validate() != nil:
		return fmt.Errorf("shards: Limits: %w", c.Limits.Validate())
	case c.MaxBad != c.MaxBad || c.MaxBad > 1:
		return fmt.Errorf("shards: MaxBad is %v, must be a fraction of 1", c.MaxBad)
	case c.Workers < 0:
		return fmt.Errorf("shards: Workers is %d, must not be negative", c.Workers)
	case c.Wait < 0:
		return fmt.Errorf("shards: Wait is %v, must not be negative", c.Wait)
	}
	return nil
}

func (c *WriteConfig) setDefaults() {
	if c.ShardSize == 0 {
		c.ShardSize = defaultShardSize
	}
	if c.Order == "" {
		c.Order = OrderPath
	}
	if c.Check == "" {
		c.Check = CheckHeader
	}
	if c.MaxBad == 0 {
		c.MaxBad = defaultMaxBad
	}
	if c.Workers == 0 {
		c.Workers = cpu.Cores()
	}
	if c.fs == nil {
		c.fs = atomicfile.OS
	}
}

func (c *WriteConfig) inputs() []string { return append([]string{c.In}, c.MoreIn...) }

// WriteReport counts what Write did with the input.
type WriteReport struct {
	Rows     int64 `json:"rows"`        // images in the dataset
	Bytes    int64 `json:"image_bytes"` // of these images
	Rejected int64 `json:"rejected"`    // named like images but unusable; listed in rejected.jsonl
	Skipped  int64 `json:"skipped"`     // not images, and not named like images
	Shards   int   `json:"shards"`
	Kept     int   `json:"kept_shards"` // of them, finished by an earlier run

	Unlabelled   int64 `json:"unlabelled"`    // files named like images that have no class
	UnusedLabels int64 `json:"unused_labels"` // names in files of labels that no input has
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

// ErrTooManyBad is the class of error of a run that WriteConfig.MaxBad ended.
var ErrTooManyBad = errors.New("too many bad files")

// ErrResumable is the class of error of a run that WriteConfig.Resume continues.
var ErrResumable = errors.New("what is finished is kept: pixpro shard --resume goes on from there")

// Write turns folders and archives of images into shards named
// shard-00000.arrow and so on. The same input and settings give the same bytes
// whatever Workers is. The content decides what is an image. A file that is
// none is skipped or, if its name says that it should be one, listed in
// rejected.jsonl.
//
// Out must be empty, unless Resume is set: then shards that an interrupted run
// with the same input and settings finished are checked and kept. It has one
// writer at a time: a second one fails, or waits as Wait says.
//
// What is held at a time stays below 300 MiB, apart from the list of files (see
// docs/shard-format.md) and from images of more than ten million pixels where
// images are decoded. Garbage comes on top; debug.SetMemoryLimit bounds it.
func Write(ctx context.Context, cfg WriteConfig) (Manifest, WriteReport, error) {
	if err := cfg.Validate(); err != nil {
		return Manifest{}, WriteReport{}, err
	}
	cfg.setDefaults()
	w := &writer{cfg: cfg, batches: newRowBatches()}
	m, err := w.runLocked(ctx)
	var held *lock.HeldError
	if errors.As(err, &held) {
		return Manifest{}, w.report, fmt.Errorf("shards: %w", held)
	}
	if err != nil {
		if w.resumable {
			err = fmt.Errorf("%w (%w)", err, ErrResumable)
		}
		return Manifest{}, w.report, fmt.Errorf("shards: write %s: %w", cfg.Out, err)
	}
	return m, w.report, nil
}

// writer is one call of Write.
type writer struct {
	cfg      WriteConfig
	sources  []ingest.Source
	manifest Manifest
	report   WriteReport
	total    int64 // files in the input
	files    int64 // of them, done

	state     state
	resumable bool // the state is in Out
	batches   rowBatches
	shard     *shardWriter     // being written, or nil
	rejected  *atomicfile.File // rejected.jsonl, or nil
	first     *rejection
	mustFail  int64 // the next files that an earlier run rejected or skipped
}

// runLocked runs as the only writer of Out.
func (w *writer) runLocked(ctx context.Context) (m Manifest, err error) {
	held, err := lock.Folder(ctx, w.cfg.Out, func(dir string) error { return atomicfile.MakeDir(w.cfg.fs, dir) }, w.cfg.Wait, w.cfg.Listener)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	return w.run(ctx)
}

func (w *writer) run(ctx context.Context) (m Manifest, err error) {
	w.state = w.cfg.settings()
	before, finished, err := w.earlier()
	if err != nil {
		return Manifest{}, err
	}
	if before != nil {
		if err := w.state.continues(before); err != nil {
			return Manifest{}, err
		}
		w.resumable = finished == nil
	}
	if finished != nil && finished.Sharding == nil {
		return w.leave(finished)
	}
	defer func() {
		for _, s := range w.sources {
			err = errors.Join(err, s.Close())
		}
	}()
	list, err := w.list(ctx)
	if err != nil {
		return Manifest{}, err
	}
	w.state.Files, w.state.Listing = int64(len(list.files)), list.digest()
	if before != nil {
		if err := w.state.hasInputOf(before); err != nil {
			return Manifest{}, err
		}
	}
	w.report.Skipped, w.report.Unlabelled, w.report.UnusedLabels = list.skipped, list.unlabelled, list.unusedLabels
	if finished != nil {
		return w.leave(finished)
	}
	w.manifest = Manifest{Version: formatVersion, Classes: list.classes, MaxSide: w.cfg.MaxSide, Sharding: &w.state.Sharding}
	if w.manifest.Classes == nil {
		w.manifest.Classes = []string{} // JSON's [] and not null
	}
	if w.cfg.Order == OrderShuffle {
		w.manifest.Order, w.manifest.Seed = w.cfg.Order, w.cfg.Seed
	}
	w.total = int64(len(list.files))

	files, err := w.begin(ctx, before, list)
	if err != nil {
		return Manifest{}, err
	}
	err = w.writeShards(ctx, files)
	if err == nil {
		err = w.accept()
	}
	if err != nil {
		return Manifest{}, errors.Join(err, w.discard(errors.Is(err, ErrTooManyBad)))
	}
	if w.rejected != nil {
		if err := w.rejected.Commit(); err != nil {
			return Manifest{}, err
		}
	}
	if err := w.manifest.write(w.cfg.fs, w.cfg.Out); err != nil {
		return Manifest{}, err
	}
	w.resumable = false
	return w.manifest, removeState(w.cfg.fs, w.cfg.Out)
}

// list opens and lists the inputs.
func (w *writer) list(ctx context.Context) (*listing, error) {
	for i, path := range w.cfg.inputs() {
		s, err := ingest.Open(ctx, path, ingest.Options{
			Format: w.cfg.Format, Exclude: w.cfg.Out, Scratch: filepath.Join(w.cfg.Out, scratchName(i)), FS: w.cfg.fs,
		})
		if err != nil {
			return nil, err
		}
		w.sources = append(w.sources, s)
	}
	return listSources(ctx, &w.cfg, w.sources)
}

// earlier checks that Out may be written to. For a resumed run it returns the
// state of the one before, and its manifest if that run was finished; nil
// where there is none.
func (w *writer) earlier() (*state, *Manifest, error) {
	used, err := inUse(w.cfg.Out, w.cfg.Resume)
	if err != nil || !used {
		return nil, nil, err
	}
	if !w.cfg.Resume {
		return nil, nil, errors.New("the folder is not empty: name an empty one, or resume an interrupted run (pixpro shard --resume)")
	}
	m, err := readManifest(w.cfg.Out)
	if err == nil {
		s := m.finalState(w.state)
		return &s, &m, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	s, err := readState(w.cfg.Out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.New("the folder is not empty and holds no interrupted run: name an empty one")
	}
	return &s, nil, err
}

// leave ends a resumed run that has nothing left to do.
func (w *writer) leave(m *Manifest) (Manifest, error) {
	w.report.Rows, w.report.Bytes = m.Rows, m.ImageBytes
	w.report.Shards, w.report.Kept = len(m.Shards), len(m.Shards)
	return *m, removeState(w.cfg.fs, w.cfg.Out)
}

// begin records the run's settings in Out, or, resuming one, keeps its
// finished shards. It returns the files that are still to be read.
func (w *writer) begin(ctx context.Context, before *state, list *listing) ([]ingest.File, error) {
	if before != nil {
		err := w.cfg.fs.Remove(filepath.Join(w.cfg.Out, rejectedName)) // of a run that too many bad files ended
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return w.keepShards(ctx, before.Shards, list)
	}
	if err := w.state.write(w.cfg.fs, w.cfg.Out); err != nil {
		return nil, err
	}
	w.resumable = true
	return list.files, nil
}

// writeShards reads the files in order and writes all that are images.
func (w *writer) writeShards(ctx context.Context, files []ingest.File) error {
	ctx, cancel := context.WithCancel(ctx)
	memory := decoding.NewMemory(decodedBytes)
	ahead := newReadAhead(ctx, w.sources, files, w.cfg.Workers, func() *examiner {
		return &examiner{check: w.cfg.Check, maxSide: w.cfg.MaxSide, decoder: decoding.NewWorker(memory, w.cfg.Limits)}
	})
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
		w.cfg.Listener.Tell(WriteProgress{Files: w.files, TotalFiles: w.total, WriteReport: w.report})
	}
	for _, s := range w.sources {
		if err := s.Unchanged(); err != nil {
			return err
		}
	}
	return w.finishShard()
}

// accept says whether the result is one to keep.
func (w *writer) accept() error {
	if w.manifest.Rows == 0 {
		return w.errNoImages()
	}
	return w.tooManyBad(w.report.Rows + w.report.Rejected)
}

// tooManyBad is the error if more than MaxBad of the images are bad.
func (w *writer) tooManyBad(images int64) error {
	share := max(w.cfg.MaxBad, 0)
	if float64(w.report.Rejected) <= share*float64(images) {
		return nil
	}
	return fmt.Errorf("%w: %d of %d, more than %.3g %%; the first: %s: %s; see %s, and raise the limit (--max-bad) to go on without them",
		ErrTooManyBad, w.report.Rejected, images, 100*share, w.first.Key, w.first.Reason, rejectedName)
}

// add puts one file where it belongs.
func (w *writer) add(j *job) error {
	if w.mustFail > 0 {
		w.mustFail--
		if j.err == nil {
			return fmt.Errorf("%s has changed since the interrupted run: write to an empty folder", j.Key)
		}
	}
	var reject *ingest.RejectError
	switch {
	case j.err == errNotImage:
		w.report.Skipped++
		return nil
	case errors.As(j.err, &reject):
		return w.reject(rejection{Key: j.Key, Reason: reject.Reason})
	case j.err != nil:
		return j.err
	case !slices.Contains(formats, j.header.Format):
		return w.reject(rejection{Key: j.Key, Reason: "the format " + j.header.Format + " is not stored"})
	}
	if w.shard != nil && w.shard.info.ImageBytes+int64(len(j.data)) > w.cfg.ShardSize {
		if err := w.finishShard(); err != nil {
			return err
		}
	}
	if w.shard == nil {
		var err error
		if w.shard, err = newShardWriter(w.cfg.fs, w.cfg.Out, shardName(len(w.manifest.Shards)), w.batches); err != nil {
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
		if w.rejected, err = atomicfile.CreateOn(w.cfg.fs, filepath.Join(w.cfg.Out, rejectedName)); err != nil {
			return err
		}
		w.first = &r
	}
	w.report.Rejected++
	if err := w.writeRejection(r); err != nil {
		return err
	}
	return w.tooManyBad(w.total) // whatever the files to come are
}

func (w *writer) writeRejection(r rejection) error {
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
	return w.state.write(w.cfg.fs, w.cfg.Out)
}

func (w *writer) addShard(info ShardInfo) {
	w.manifest.Shards = append(w.manifest.Shards, info)
	w.state.Shards = w.manifest.Shards
	w.manifest.Rows += info.Rows
	w.manifest.ImageBytes += info.ImageBytes
	w.report.Shards++
}

// discard removes what is half written. The folder is then empty or can be
// resumed. The list of rejected files can be kept, for people to look at.
func (w *writer) discard(keepRejected bool) error {
	var err error
	if w.shard != nil {
		err = w.shard.discard()
	}
	switch {
	case w.rejected == nil:
	case keepRejected:
		return errors.Join(err, w.rejected.Commit())
	default:
		err = errors.Join(err, w.rejected.Close())
	}
	if len(w.state.Shards) == 0 {
		// A shard whose folder could not be flushed may be there all the same.
		removeErr := removeShards(w.cfg.fs, w.cfg.Out, 0)
		if removeErr == nil {
			removeErr = removeState(w.cfg.fs, w.cfg.Out)
		}
		w.resumable = removeErr != nil
		err = errors.Join(err, removeErr)
	}
	return err
}

func (w *writer) errNoImages() error {
	msg := fmt.Sprintf("no images in %s (skipped files: %d, rejected: %d", strings.Join(w.cfg.inputs(), ", "), w.report.Skipped, w.report.Rejected)
	if w.first != nil {
		msg += fmt.Sprintf("; the first: %s: %s", w.first.Key, w.first.Reason)
	}
	return errors.New(msg + ")")
}

package shards

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

// stateName is a file that stands in Out until the manifest does: the settings
// and inputs that a resumed run must share, and the shards that are finished.
const stateName = "sharding.json"

type state struct {
	Version int    `json:"version"`
	Order   Order  `json:"order"`
	Seed    uint64 `json:"seed"`
	MaxSide int    `json:"max_side"`
	Sharding
	Shards []ShardInfo `json:"shards"`
}

// settings are the state of a run that has not listed its inputs.
func (c *WriteConfig) settings() state {
	s := state{
		Version:  formatVersion,
		Order:    c.Order,
		Seed:     c.Seed,
		MaxSide:  c.MaxSide,
		Sharding: Sharding{ShardSize: c.ShardSize, Check: c.Check},
	}
	if c.Check == CheckDecode || c.MaxSide > 0 {
		if n := c.Limits.MaxPixels; n != decode.DefaultMaxPixels {
			s.MaxPixels = n
		}
		if t := c.Limits.MaxTime; t != decode.DefaultMaxTime {
			s.MaxDecodeTime = t
		}
	}
	return s
}

// finalState is the state of the run that ended with the manifest. What early
// manifests do not tell is taken from now.
func (m *Manifest) finalState(now state) state {
	s := state{Version: m.Version, Order: cmp.Or(m.Order, OrderPath), Seed: m.Seed, MaxSide: m.MaxSide, Sharding: now.Sharding, Shards: m.Shards}
	if m.Sharding != nil {
		s.Sharding = *m.Sharding
	}
	return s
}

// readState reads the state; where there is none the error is an
// fs.ErrNotExist.
func readState(dir string) (state, error) {
	path := filepath.Join(dir, stateName)
	data, err := os.ReadFile(path)
	if err != nil {
		return state{}, err
	}
	var s state
	err = checkFormat(data)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return state{}, fmt.Errorf("%s: %w, or %s", path, err, emptyFolder)
	}
	return s, nil
}

func (s state) write(fsys atomicfile.FS, dir string) error {
	return writeJSON(fsys, filepath.Join(dir, stateName), s)
}

// removeState ends a run: it removes the state and what killed runs left
// unfinished. A run that was ended before is fine.
func removeState(fsys atomicfile.FS, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == stateName || isLeftover(e.Name()) {
			err = errors.Join(err, fsys.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// isLeftover reports whether a file of Out is one that was never finished.
func isLeftover(name string) bool {
	name, unfinished := strings.CutSuffix(name, atomicfile.TempSuffix)
	for _, pattern := range []string{"input-*", "shard-*.arrow", stateName, rejectedName, manifestName} {
		if ok, _ := filepath.Match(pattern, name); ok && unfinished {
			return true
		}
	}
	return false
}

// scratchName is the file that input n is decompressed to.
func scratchName(n int) string { return fmt.Sprintf("input-%d%s", n, atomicfile.TempSuffix) }

// inUse reports whether dir holds anything but this run's lock. To a resumed
// run, what one that was killed before its state was written leaves behind is
// nothing.
func inUse(dir string, resume bool) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.Name() != lock.FolderName && (!resume || !isLeftover(e.Name()))
	}), nil
}

const emptyFolder = "write to an empty folder"

// continues says why a run with settings s cannot continue the one before.
func (s *state) continues(before *state) error {
	differs := func(what string, then any) error {
		return fmt.Errorf("the run before had %s %v: give the same, or %s", what, then, emptyFolder)
	}
	switch {
	case s.ShardSize != before.ShardSize:
		return differs("a shard size of", before.ShardSize)
	case s.Order != before.Order:
		return differs("the order", before.Order)
	case s.Seed != before.Seed:
		return differs("the seed", before.Seed)
	case s.MaxSide != before.MaxSide:
		return differs("a largest side of", before.MaxSide)
	case s.Check != before.Check:
		return differs("the check", before.Check)
	case s.MaxPixels != before.MaxPixels:
		return differs("a limit of pixels of", cmp.Or(before.MaxPixels, decode.DefaultMaxPixels))
	case s.MaxDecodeTime != before.MaxDecodeTime:
		return differs("a limit of decoding time of", cmp.Or(before.MaxDecodeTime, decode.DefaultMaxTime))
	}
	return nil
}

// hasInputOf says why the inputs of a run are not those of the one before.
func (s *state) hasInputOf(before *state) error {
	if s.Files != before.Files || s.Listing != before.Listing {
		return fmt.Errorf("the run before had other inputs or labels, or they have changed since (%d files then, %d now): give the same, or %s", before.Files, s.Files, emptyFolder)
	}
	return nil
}

// keepShards checks the shards that an earlier run finished, keeps those up to
// the first that is not as it was, and removes what follows. It returns the
// files that are not in the kept ones: first those that the earlier run passed
// over, which are to be reported again.
func (w *writer) keepShards(ctx context.Context, finished []ShardInfo, list *listing) ([]ingest.File, error) {
	rest := list.files
	var passed []ingest.File // before rest, but in no kept shard
	for n, info := range finished {
		if info.Name != shardName(n) {
			break
		}
		after, before := rest, len(passed)
		got, faults, err := checkShard(ctx, w.cfg.Out, info.Name, shardCheck{classes: len(list.classes), visit: func(s Sample) {
			for len(after) > 0 && (after[0].Key != s.Key || after[0].Fault != ingest.FaultNone) {
				passed = append(passed, after[0])
				after = after[1:]
			}
			if len(after) > 0 {
				after = after[1:]
			}
		}})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil || len(faults) > 0 || got != info {
			passed = passed[:before]
			break
		}
		rest = after
		w.addShard(info)
		w.report.Kept++
		w.report.Rows += info.Rows
		w.report.Bytes += info.ImageBytes
		w.files += info.Rows
	}
	if err := removeShards(w.cfg.fs, w.cfg.Out, len(w.manifest.Shards)); err != nil {
		return nil, err
	}
	w.mustFail = int64(len(passed))
	start := len(list.files) - len(rest) - len(passed)
	copy(list.files[start:], passed)
	return list.files[start:], w.state.write(w.cfg.fs, w.cfg.Out)
}

// removeShards removes the shards from number n on.
func removeShards(fsys atomicfile.FS, dir string, n int) error {
	for ; ; n++ {
		err := fsys.Remove(filepath.Join(dir, shardName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

package shards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateName is a file that stands in Out until the manifest does: the settings
// that a resumed run must share, and the shards that are finished.
const stateName = "sharding.json"

type state struct {
	Version   int         `json:"version"`
	ShardSize int64       `json:"shard_size"`
	Files     int64       `json:"files"`   // in the input folder
	Listing   string      `json:"listing"` // digest of their names
	Shards    []ShardInfo `json:"shards"`
}

func readState(dir string) (state, error) {
	path := filepath.Join(dir, stateName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, errors.New("the folder is not empty and holds no interrupted run: name an empty one")
	}
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w: write to an empty folder", path, err)
	}
	return s, nil
}

func (s state) write(dir string) error {
	return writeJSON(filepath.Join(dir, stateName), s)
}

// removeState ends a run; one that was ended before is fine.
func removeState(dir string) error {
	err := os.Remove(filepath.Join(dir, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// continues says why a run with settings s cannot continue the one before.
func (s state) continues(before state) error {
	switch {
	case s.Version != before.Version:
		return fmt.Errorf("the interrupted run wrote version %d, this program writes %d: write to an empty folder", before.Version, s.Version)
	case s.ShardSize != before.ShardSize:
		return fmt.Errorf("the interrupted run had a shard size of %d bytes: give the same, or write to an empty folder", before.ShardSize)
	case s.Files != before.Files || s.Listing != before.Listing:
		return fmt.Errorf("the input folder has changed since the interrupted run (%d files then, %d now): write to an empty folder", before.Files, s.Files)
	}
	return nil
}

// keepShards checks the shards that an earlier run finished, keeps those up to
// the first that is not as it was, and removes what follows. It returns the
// files that are not in the kept ones: first those that the earlier run passed
// over, which are to be reported again.
func (w *writer) keepShards(ctx context.Context, finished []ShardInfo, list *listing) ([]file, error) {
	rest := list.files
	var passed []file // before rest, but in no kept shard
	for n, info := range finished {
		if info.Name != shardName(n) {
			break
		}
		after, before := rest, len(passed)
		got, faults, err := checkShard(ctx, w.cfg.Out, info.Name, len(list.classes), func(s Sample) {
			for len(after) > 0 && after[0].key != s.Key {
				passed = append(passed, after[0])
				after = after[1:]
			}
			if len(after) > 0 {
				after = after[1:]
			}
		}, func(int64) {})
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
	if err := removeShards(w.cfg.Out, len(w.manifest.Shards)); err != nil {
		return nil, err
	}
	w.mustFail = int64(len(passed))
	start := len(list.files) - len(rest) - len(passed)
	copy(list.files[start:], passed)
	return list.files[start:], w.state.write(w.cfg.Out)
}

// removeShards removes the shards from number n on.
func removeShards(dir string, n int) error {
	for ; ; n++ {
		err := os.Remove(filepath.Join(dir, shardName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-activity") { // follow has started it
		started := func(dir string) error { return os.WriteFile(filepath.Join(dir, "started"), nil, 0o666) }
		activities["hang"] = func(_ context.Context, dir string, _ *rand.Rand, _ *atomic.Int64) error {
			_ = started(dir)
			select {}
		}
		activities["work"] = func(ctx context.Context, dir string, _ *rand.Rand, _ *atomic.Int64) error {
			if err := started(dir); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
		activities["end"] = func(context.Context, string, *rand.Rand, *atomic.Int64) error { return nil }
		activities["fail"] = func(context.Context, string, *rand.Rand, *atomic.Int64) error { return io.ErrNoProgress }
		main()
		return
	}
	os.Exit(m.Run())
}

// TestFollow has processes that hang, end, fail, and work until they are stopped,
// which they are once they have started.
func TestFollow(t *testing.T) {
	for name, want := range map[string]string{"hang": "killed", "end": "ended before its time", "fail": io.ErrNoProgress.Error(), "work": ""} {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
					time.Sleep(200 * time.Millisecond)
					cancel()
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		endsWithin = time.Minute
		if name == "hang" {
			endsWithin = time.Second
		}
		samples, err := follow(ctx, name, dir, 20*time.Millisecond, time.Now())
		cancel()
		if want == "" {
			if err != nil || len(samples) == 0 {
				t.Errorf("%s: %d samples, %v", name, len(samples), err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestVerdict has what is no trend, and no success either.
func TestVerdict(t *testing.T) {
	series := func(n int, units func(i int) int64) []sample {
		all := make([]sample, n)
		for i := range all {
			all[i].At, all[i].CPU, all[i].Units = time.Duration(i)*time.Second, time.Duration(i)*time.Second, units(i)
		}
		return all
	}
	for name, c := range map[string]struct {
		all  []sample
		want string
	}{
		"works":   {series(240, func(i int) int64 { return int64(i) }), ""},
		"none":    {nil, "too few samples"},
		"few":     {series(20, func(i int) int64 { return int64(i) }), "too few samples"},
		"hangs":   {series(240, func(i int) int64 { return min(int64(i), 200) }), "did nothing for 39s"},
		"nothing": {series(240, func(int) int64 { return 0 }), "did nothing"},
	} {
		err := verdict([]string{name}, [][]sample{c.all})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

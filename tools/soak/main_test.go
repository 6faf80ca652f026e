package main

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-activity") { // follow has started it
		activities["hang"] = func(context.Context, string, *rand.Rand, *atomic.Int64) error { select {} }
		activities["end"] = func(context.Context, string, *rand.Rand, *atomic.Int64) error { return nil }
		activities["fail"] = func(context.Context, string, *rand.Rand, *atomic.Int64) error { return io.ErrNoProgress }
		activities["work"] = func(ctx context.Context, _ string, _ *rand.Rand, _ *atomic.Int64) error {
			<-ctx.Done()
			return ctx.Err()
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// TestFollow has processes that hang, end, fail, and work until they are stopped.
func TestFollow(t *testing.T) {
	endsWithin = 300 * time.Millisecond
	for name, want := range map[string]string{"hang": "killed", "end": "ended before its time", "fail": io.ErrNoProgress.Error(), "work": ""} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		samples, err := follow(ctx, name, t.TempDir(), 20*time.Millisecond, time.Now())
		cancel()
		if want == "" {
			if err != nil || len(samples) < 2 {
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

package shards

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
)

// Whatever operation on files fails, once or for ever, no file under a final
// name is other than it should become, and a second run gives the same bytes as
// one that was not disturbed.
func TestEveryOperationFails(t *testing.T) {
	files := []member{{"cat/bad.jpg", []byte("no image")}}
	for i := range 8 {
		files = append(files, member{fmt.Sprintf("%c/%d.png", "cd"[i%2], i), picture(t, "png", 9, 9, uint64(i))})
	}
	cfg := WriteConfig{In: put(t, "x.tar.gz", gzipped(t, tarOf(t, files))), ShardSize: 1 << 10, MaxBad: 1, Workers: 2}
	whole, _ := shardInto(t, cfg)
	want := digests(t, whole)

	run := func(failAt int, stays, resume bool, out string) (*atomicfiletest.FS, error) {
		fsys := &atomicfiletest.FS{FailAt: failAt, Stays: stays}
		cfg := cfg
		cfg.Out, cfg.Resume, cfg.fs = out, resume, fsys
		_, _, err := Write(context.Background(), cfg)
		return fsys, err
	}
	fsys, err := run(0, false, false, filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	total := len(fsys.Operations)
	if total < 50 {
		t.Fatalf("only %d operations: too few to test with", total)
	}
	stride := 1
	if testing.Short() {
		stride = 5
	}
	for _, stays := range []bool{false, true} {
		for n := 1; n <= total; n += stride {
			where := fmt.Sprintf("operation %d of %d (%s) fails, and all that follow: %v", n, total, fsys.Operations[n-1], stays)
			out := filepath.Join(t.TempDir(), "out")
			if _, err := run(n, stays, false, out); !errors.Is(err, atomicfiletest.ErrInjected) {
				t.Errorf("%s: error is %v", where, err)
			}
			checkUnfinished(t, where, out, want)
			// The second run is disturbed too, at another place.
			if _, err := run(1+n*7%total, stays, true, out); err != nil && !errors.Is(err, atomicfiletest.ErrInjected) {
				t.Errorf("%s, then another: %v", where, err)
			}
			checkUnfinished(t, where+", then another", out, want)
			if _, err := run(0, false, true, out); err != nil {
				t.Errorf("%s: resumed: %v", where, err)
			}
			if diff := cmp.Diff(want, digests(t, out)); diff != "" {
				t.Errorf("%s (-undisturbed +resumed):\n%s", where, diff)
			}
		}
	}
}

// checkUnfinished checks that every file of an unfinished folder is the final
// one, or is not under a final name.
func checkUnfinished(t *testing.T, where, out string, want map[string]string) {
	t.Helper()
	if _, err := os.Stat(out); err != nil {
		return // not even begun
	}
	got := digests(t, out)
	maps.DeleteFunc(got, func(name, sum string) bool {
		return name == stateName || strings.HasSuffix(name, atomicfile.TempSuffix) || want[name] == sum
	})
	if len(got) > 0 {
		t.Errorf("%s: left unfinished under a final name: %v", where, got)
	}
}

package shards

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
)

// TestPowerCuts cuts the power after every operation on files, and again while
// the run that follows resumes: no file under a final name is other than it
// should become, and the last run gives the same bytes as one that was not
// disturbed.
func TestPowerCuts(t *testing.T) {
	files := []member{{"cat/bad.jpg", []byte("no image")}}
	for i := range 8 {
		files = append(files, member{fmt.Sprintf("%c/%d.png", "cd"[i%2], i), picture(t, "png", 9, 9, uint64(i))})
	}
	cfg := WriteConfig{In: put(t, "x.tar.gz", gzipped(t, tarOf(t, files))), ShardSize: 1 << 10, MaxBad: 1, Workers: 2}
	whole, _ := shardInto(t, cfg)
	want := digests(t, whole)

	write := func(dir string) *atomicfiletest.Disk {
		disk, err := atomicfiletest.NewDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		cfg := cfg
		cfg.Out, cfg.Resume, cfg.fs = filepath.Join(dir, "out"), true, disk
		if _, _, err := Write(context.Background(), cfg); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, digests(t, cfg.Out)); diff != "" {
			t.Errorf("(-undisturbed +resumed):\n%s", diff)
		}
		return disk
	}
	root := t.TempDir()
	after := func(disk *atomicfiletest.Disk, n int, rng *rand.Rand) string {
		dir, err := os.MkdirTemp(root, "after")
		if err != nil {
			t.Fatal(err)
		}
		if err := disk.Crash(n, rng, dir); err != nil {
			t.Fatal(err)
		}
		checkUnfinished(t, fmt.Sprintf("after operation %d", n), filepath.Join(dir, "out"), want)
		return dir
	}
	stride, tries := 1, atomicfiletest.Tries()
	if testing.Short() {
		stride = 7
	}
	first := write(t.TempDir())
	operations := first.Operations()
	rng := rand.New(rand.NewPCG(15, 0))
	cuts := 0
	for n := 0; n <= len(operations) && !t.Failed(); n += stride {
		for range tries {
			dir := after(first, n, rng)
			second := write(dir)
			m := rng.IntN(len(second.Operations()) + 1)
			again := after(second, m, rng)
			write(again)
			cuts += 2
			if t.Failed() {
				t.Fatalf("cut after operation %d (%s), and then after %d of %v", n, append(operations, "the end")[n], m, second.Operations())
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(again); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A finished dataset is one whatever happens then.
	for range 20 {
		dir := after(first, len(operations), rng)
		left := digests(t, filepath.Join(dir, "out"))
		maps.DeleteFunc(left, func(name, _ string) bool { return want[name] == "" }) // what is to be removed may still be there
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("cut after the end (-undisturbed +left):\n%s", diff)
		}
	}
	t.Logf("%d cuts of runs of %d operations", cuts, len(operations))
}

package shards

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

var errInjected = errors.New("injected")

// faultFS is the system's file system until the failAt-th operation, which
// fails; a write that fails has written half. If powerCut is set nothing works
// afterwards, and what was not flushed is lost.
type faultFS struct {
	failAt   int
	powerCut bool
	done     int
	names    []string        // of the operations
	dirty    map[string]bool // files with content that was not flushed
}

// step counts an operation and says whether it fails.
func (f *faultFS) step(name string) error {
	f.done++
	f.names = append(f.names, name)
	if f.done == f.failAt || f.done > f.failAt && f.powerCut {
		return fmt.Errorf("%s: %w", name, errInjected)
	}
	return nil
}

func (f *faultFS) Create(path string) (atomicfile.Handle, error) {
	if err := f.step("create " + filepath.Base(path)); err != nil {
		return nil, err
	}
	h, err := atomicfile.OS.Create(path)
	f.dirty[path] = true
	return &faultHandle{Handle: h, fs: f, path: path}, err
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.step("rename " + filepath.Base(from)); err != nil {
		return err
	}
	f.dirty[to] = f.dirty[from]
	delete(f.dirty, from)
	return atomicfile.OS.Rename(from, to)
}

func (f *faultFS) Remove(path string) error {
	if err := f.step("remove " + filepath.Base(path)); err != nil {
		return err
	}
	delete(f.dirty, path)
	return atomicfile.OS.Remove(path)
}

func (f *faultFS) MkdirAll(path string) error {
	if err := f.step("mkdir"); err != nil {
		return err
	}
	return atomicfile.OS.MkdirAll(path)
}

func (f *faultFS) SyncDir(string) error {
	return f.step("sync folder") // loseUnflushed stands for the disk
}

// loseUnflushed leaves what a disk has after the power is cut.
func (f *faultFS) loseUnflushed() error {
	var errs []error
	for path, dirty := range f.dirty {
		if dirty {
			errs = append(errs, os.Truncate(path, 0))
		}
	}
	return errors.Join(errs...)
}

type faultHandle struct {
	atomicfile.Handle
	fs   *faultFS
	path string
}

func (h *faultHandle) Write(p []byte) (int, error) {
	if err := h.fs.step("write " + filepath.Base(h.path)); err != nil {
		n, _ := h.Handle.Write(p[:len(p)/2])
		return n, err
	}
	h.fs.dirty[h.path] = true
	return h.Handle.Write(p)
}

func (h *faultHandle) Sync() error {
	if err := h.fs.step("sync " + filepath.Base(h.path)); err != nil {
		return err
	}
	h.fs.dirty[h.path] = false
	return nil
}

// Close always closes, so that a test leaves no files open.
func (h *faultHandle) Close() error {
	return errors.Join(h.fs.step("close "+filepath.Base(h.path)), h.Handle.Close())
}

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

	run := func(failAt int, powerCut, resume bool, out string) (*faultFS, error) {
		fsys := &faultFS{failAt: failAt, powerCut: powerCut, dirty: map[string]bool{}}
		cfg := cfg
		cfg.Out, cfg.Resume, cfg.fs = out, resume, fsys
		_, _, err := Write(context.Background(), cfg)
		if powerCut {
			err = errors.Join(err, fsys.loseUnflushed())
		}
		return fsys, err
	}
	fsys, err := run(math.MaxInt, false, false, filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	total := fsys.done
	if total < 50 {
		t.Fatalf("only %d operations: too few to test with", total)
	}
	stride := 1
	if testing.Short() {
		stride = 5
	}
	for _, powerCut := range []bool{false, true} {
		for n := 1; n <= total; n += stride {
			where := fmt.Sprintf("operation %d of %d (%s) fails, power cut %v", n, total, fsys.names[n-1], powerCut)
			out := filepath.Join(t.TempDir(), "out")
			if _, err := run(n, powerCut, false, out); !errors.Is(err, errInjected) {
				t.Errorf("%s: error is %v", where, err)
			}
			checkUnfinished(t, where, out, want)
			// The second run is disturbed too, at another place.
			if _, err := run(1+n*7%total, powerCut, true, out); err != nil && !errors.Is(err, errInjected) {
				t.Errorf("%s, then another: %v", where, err)
			}
			checkUnfinished(t, where+", then another", out, want)
			if _, err := run(math.MaxInt, false, true, out); err != nil {
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

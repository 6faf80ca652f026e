package train

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/options"
)

// TestPowerCuts cuts the power after every operation on files of a run that saves
// and prunes. What is said to be saved is there and is found, every checkpoint is
// whole and that of an undisturbed run, and the metrics up to it are. So a resumed
// run ends as an undisturbed one, which some do.
func TestPowerCuts(t *testing.T) {
	data := makeShards(t)
	configure := func(output string) Options {
		cfg := tiny(data, output)
		cfg.Resume, cfg.SaveEvery, cfg.Epochs = options.Auto, options.Interval{Steps: 3}, 2
		return cfg
	}
	// An undisturbed run that keeps all.
	whole := configure(t.TempDir())
	whole.Keep = 0
	if err := trainFor(t, whole, 0); err != nil {
		t.Fatal(err)
	}
	metrics, final := outcome(t, whole.Output)
	want := map[int64]map[string]checkpoint.Digest{}
	names, err := checkpoint.Names(whole.Output)
	if err != nil || len(names) != 4 {
		t.Fatalf("checkpoints %v (%v)", names, err)
	}
	for _, name := range names {
		c, err := checkpoint.Open(filepath.Join(whole.Output, checkpoint.Folder, name))
		if err != nil {
			t.Fatal(err)
		}
		delete(c.State.Files, checkpoint.ConfigFile)
		want[c.State.Step] = c.State.Files
	}

	root := t.TempDir()
	cfg := configure(filepath.Join(root, "run"))
	cfg.Keep = 1
	saved := map[int]int64{} // steps, by the operations until they were said to be saved
	var mu sync.Mutex
	disk, err := atomicfiletest.NewDisk(root)
	if err != nil {
		t.Fatal(err)
	}
	err = trainListening(t, cpu.New(2), cfg, 0, disk, func(e Event) {
		if s, ok := e.(Saved); ok {
			mu.Lock()
			defer mu.Unlock()
			saved[len(disk.Operations())] = s.Step
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	operations := disk.Operations()
	stride, tries, resumed := 1, atomicfiletest.Tries(), 150
	if testing.Short() {
		stride, resumed = 5, 400
	}
	rng := rand.New(rand.NewPCG(15, 1))
	cuts, runs, least := 0, 0, int64(0)
	for n := range len(operations) + 1 {
		if s, ok := saved[n]; ok {
			least = s
		}
		if n%stride > 0 && n < len(operations) {
			continue
		}
		for try := range tries {
			dir := filepath.Join(t.TempDir(), "after")
			if err := disk.Crash(n, rng, dir); err != nil {
				t.Fatal(err)
			}
			cfg := configure(filepath.Join(dir, "run"))
			cfg.Keep = 1
			where := fmt.Sprintf("cut after operation %d of %d (%s)", n, len(operations), append(operations, "the end")[n])
			cuts++
			newest, err := checkpoint.Newest(cfg.Output, func(err error) { t.Errorf("%s: %v", where, err) })
			if err != nil || newest == nil && least > 0 {
				t.Fatalf("%s: no checkpoint, and step %d was saved (%v)", where, least, err)
			}
			names, err := checkpoint.Names(cfg.Output)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names { // older ones, too, are whole
				if _, err := checkpoint.Open(filepath.Join(cfg.Output, checkpoint.Folder, name)); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			}
			if newest != nil {
				delete(newest.State.Files, checkpoint.ConfigFile)
				if diff := cmp.Diff(want[newest.State.Step], newest.State.Files); newest.State.Step < least || diff != "" {
					t.Errorf("%s: the newest is of step %d, where %d was saved (-undisturbed +left):\n%s", where, newest.State.Step, least, diff)
				}
				noted, err := checkpoint.Open(cfg.Output)
				if err != nil || noted.State.Step < least {
					t.Errorf("%s: the latest is %+v (%v), where %d was saved", where, noted, err, least)
				}
				left, err := readMetrics(cfg.Output, newest.State.Step)
				if err != nil || int64(len(left)) < newest.State.Step {
					t.Errorf("%s: %d lines of metrics at step %d (%v)", where, len(left), newest.State.Step, err)
				}
				for i, m := range left {
					if i < len(metrics) && int64(i) < newest.State.Step && m.Loss != metrics[i].Loss {
						t.Errorf("%s: line %d of the metrics has loss %v, undisturbed %v", where, i+1, m.Loss, metrics[i].Loss)
					}
				}
			}
			if (n*tries+try)%resumed == 0 {
				runs++
				if err := trainFor(t, cfg, 0); err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				got, files := outcome(t, cfg.Output)
				if len(got) != len(metrics) || !cmp.Equal(final, files) {
					t.Errorf("%s: the resumed run has %d lines of metrics and ends with other parameters: %s", where, len(got), cmp.Diff(final, files))
				}
			}
			if t.Failed() {
				t.FailNow()
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d cuts of a run of %d operations, of which %d were resumed", cuts, len(operations), runs)
}

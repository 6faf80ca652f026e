package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/version"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

const compat = "../../testdata/compat"

// TestEarlierVersions reads what earlier versions wrote: see testdata/compat.
func TestEarlierVersions(t *testing.T) {
	versions, err := filepath.Glob(filepath.Join(compat, "*", "shards"))
	if err != nil || len(versions) < 2 {
		t.Fatalf("files of %d versions (%v)", len(versions), err)
	}
	for _, data := range versions {
		dir := filepath.Dir(data)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			earlierShards(t, data)
			if _, err := os.Stat(filepath.Join(dir, "run")); err == nil {
				earlierViews(t, dir)
				earlierRun(t, dir)
			}
		})
	}
}

// earlierShards verifies shards and compares their images with the files.
func earlierShards(t *testing.T, data string) {
	mustRun(t, "verify", "--shards", data, "--deep")
	mustRun(t, "inspect", "--shards", data)
	d, err := shards.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Len() != 8 || len(d.Classes()) != 6 {
		t.Errorf("%d images of %d classes, want 8 of 6", d.Len(), len(d.Classes()))
	}
	err = d.Scan(t.Context(), func(s shards.Sample) {
		want, err := os.ReadFile(filepath.Join(compat, "images", filepath.FromSlash(s.Key)))
		if err != nil || string(want) != string(s.Image) || !strings.HasPrefix(s.Key, d.Classes()[s.Label]+"/") {
			t.Errorf("%s of class %d is not its file (%v)", s.Key, s.Label, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// earlierViews makes the same views as then, to the bit.
func earlierViews(t *testing.T, dir string) {
	now := filepath.Join(t.TempDir(), "views.arrow")
	mustRun(t, "augment", "--shards", filepath.Join(dir, "shards"), "--size", "16", "--batch", "3", "--epochs", "1", "--seed", "5", "--recipe", "byol", "--out", now)
	want, got := recordsOf(t, filepath.Join(dir, "views.arrow")), recordsOf(t, now)
	if len(want) != len(got) || len(got) != 3 {
		t.Fatalf("%d batches, then %d", len(got), len(want))
	}
	for i := range want {
		if !array.RecordEqual(want[i], got[i]) {
			t.Errorf("batch %d is not what it was", i)
		}
		if _, err := pipeline.NewBatch(want[i]); err != nil {
			t.Error(err)
		}
	}
}

func recordsOf(t *testing.T, path string) []arrow.Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var records []arrow.Record
	for i := range r.NumRecords() {
		rec, err := r.RecordAt(i)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
	return records
}

// earlierRun exports a run's checkpoint as then, and trains on from it. Losses are
// compared as numbers: processors round differently.
func earlierRun(t *testing.T, dir string) {
	run := filepath.Join(t.TempDir(), "run")
	if err := os.CopyFS(run, os.DirFS(filepath.Join(dir, "run"))); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "backbone.safetensors")
	mustRun(t, "export", "--checkpoint", run, "--out", out)
	want, err := safetensors.Read(filepath.Join(dir, "backbone.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := safetensors.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Names(), got.Names()); diff != "" {
		t.Errorf("names of exported tensors (-then +now):\n%s", diff)
	}
	for _, name := range want.Names() {
		then, _ := want.Tensor(name)
		if now, _ := got.Tensor(name); !cmp.Equal(then, now) {
			t.Errorf("%s is exported with other values", name)
		}
	}
	mustRun(t, "checkpoint", "show", run)
	mustRun(t, "train", "--shards", filepath.Join(dir, "shards"), "--output", run, "--arch", "resnet18", "--stem", "small",
		"--width", "0.03125", "--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "4", "--epochs", "2", "--warmup-epoch", "0",
		"--keep", "0", "--threads", "1", "--seed", "3", "--resume", "auto")
	losses, err := train.ReadMetrics(run)
	if err != nil {
		t.Fatal(err)
	}
	then, err := train.ReadMetrics(dir)
	if err != nil || len(then) != 4 || len(losses) != 4 {
		t.Fatalf("%d steps, then %d (%v)", len(losses), len(then), err)
	}
	for i := range then {
		if math.Abs(losses[i].Loss-then[i].Loss) > 1e-3 || losses[i].LearningRate != then[i].LearningRate {
			t.Errorf("step %d is %+v, was %+v", i+1, losses[i], then[i])
		}
	}
}

// TestLaterVersions: what only a later version reads is refused by its name.
func TestLaterVersions(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(compat, "0.1.0"))); err != nil {
		t.Fatal(err)
	}
	edit := func(path string, change func(m map[string]any)) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if data, err = json.Marshal(m); err == nil {
			err = os.WriteFile(path, data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, err error) {
		t.Helper()
		for _, word := range []string{"format 9", "0.9.0", version.Number, "later"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error is %v, want %q in it", what, err, word)
			}
		}
	}
	manifest := filepath.Join(dir, "shards", "manifest.json")
	later := func(m map[string]any) { m["version"], m["pixpro"], m["shards"] = 9, "0.9.0", "elsewhere" }
	edit(manifest, later)
	_, err := shards.Open(filepath.Dir(manifest))
	check("shards", err)
	_, _, err = shards.Write(t.Context(), shards.WriteConfig{In: filepath.Join(compat, "images"), Out: filepath.Dir(manifest), Resume: true})
	check("shards that a run resumes", err)
	if err := os.Rename(manifest, filepath.Join(filepath.Dir(manifest), "sharding.json")); err != nil {
		t.Fatal(err)
	}
	_, _, err = shards.Write(t.Context(), shards.WriteConfig{In: filepath.Join(compat, "images"), Out: filepath.Dir(manifest), Resume: true})
	check("interrupted shards", err)

	run := filepath.Join(dir, "run")
	folder := func(step int64) string { return filepath.Join(run, checkpoint.Folder, checkpoint.StepName(step)) }
	if err := os.CopyFS(folder(3), os.DirFS(folder(2))); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(folder(3), checkpoint.StateFile)
	edit(state, func(m map[string]any) {
		m["format"], m["versions"].(map[string]any)["pixpro"], m["position"] = 9, "0.9.0", "elsewhere"
	})
	_, err = checkpoint.Open(folder(3))
	check("a checkpoint", err)
	// A run must not go on from an earlier checkpoint, and over the later one.
	_, err = checkpoint.Newest(run, func(err error) { t.Errorf("passed over: %v", err) })
	check("the newest checkpoint", err)
	if errors.Is(err, checkpoint.ErrUnsound) {
		t.Errorf("a later version's checkpoint counts as damaged: %v", err)
	}
	// A format that its writer could not know is damage.
	edit(state, func(m map[string]any) { m["versions"].(map[string]any)["pixpro"] = version.String() })
	passed := 0
	c, err := checkpoint.Newest(run, func(error) { passed++ })
	if err != nil || c.State.Step != 2 || passed != 1 {
		t.Errorf("step %+v after passing over %d (%v), want step 2 after 1", c, passed, err)
	}

	rec := recordsOf(t, filepath.Join(dir, "views.arrow"))[0]
	metadata := rec.Schema().Metadata().ToMap()
	metadata[pipeline.MetaVersion], metadata[pipeline.MetaPixPro] = "9", "0.9.0"
	theirs := arrow.MetadataFrom(metadata)
	_, err = pipeline.NewBatch(array.NewRecord(arrow.NewSchema(rec.Schema().Fields(), &theirs), rec.Columns(), rec.NumRows()))
	check("record batches", err)
}

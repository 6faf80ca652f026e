package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/safetensors"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// evaluation makes a dataset with masks, its shards and a trained checkpoint,
// and returns the place of each.
func evaluation(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for seed, name := range []string{"train", "val"} {
		mustRun(t, "demo", "dataset", "--out", path(name), "--masks", path(name+"-masks"), "--images", "12", "--min-side", "40", "--max-side", "60", "--seed", fmt.Sprint(seed))
		mustRun(t, "shard", "--in", path(name), "--out", path(name+"-shards"))
	}
	mustRun(t, "train", "--shards", path("train-shards"), "--output", path("run"), "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
		"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "4", "--epochs", "2", "--seed", "3")
	return path
}

// decodeJSON runs a command line and decodes its JSON.
func decodeJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	out := mustRun(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
}

// TestEvaluation runs every evaluation twice, on different numbers of threads,
// which must give the same.
func TestEvaluation(t *testing.T) {
	path := evaluation(t)
	weights := []string{"--checkpoint", path("run"), "--untrained", "--seed", "3"}
	twice := func(v, again any, args ...string) {
		t.Helper()
		args = append(args, weights...)
		decodeJSON(t, v, append(args, "--threads", "1")...)
		decodeJSON(t, again, append(args, "--threads", "3")...)
		if diff := cmp.Diff(v, again); diff != "" {
			t.Errorf("%v depends on the number of threads:\n%s", args, diff)
		}
		if out := mustRun(t, args...); !strings.Contains(out, "untrained") {
			t.Errorf("%v prints\n%s", args, out)
		}
	}
	folders := []string{"--val", path("val"), "--val-masks", path("val-masks")}
	training := append([]string{"--train", path("train"), "--masks", path("train-masks")}, folders...)

	for _, probe := range []string{evaluate.LinearProbe, evaluate.MLPProbe} {
		var r, again denseReport
		twice(&r, &again, append([]string{"eval", "segment", "--probe", probe, "--probe-epochs", "3", "--stage", "3"}, training...)...)
		if len(r.Models) != 2 || r.Classes != 7 || r.Size != 32 || r.Stage != 3 || r.Train != 12 || r.Val != 12 || r.Models[0].Step != 6 {
			t.Errorf("eval segment reports %+v", r)
		}
		for _, m := range r.Models {
			if !(m.MeanIoU > 0 && m.MeanIoU < 1 && m.Accuracy > 0.2 && m.Accuracy < 1) || len(m.IoU) != 7 {
				t.Errorf("eval segment finds %+v", m)
			}
		}
	}
	var r, again denseReport
	twice(&r, &again, append([]string{"eval", "cluster", "--clusters", "9"}, folders...)...)
	if len(r.Models) != 2 || r.Clusters != 9 || len(r.Models[0].ClassOf) != 9 || !(r.Models[0].MeanIoU > 0) {
		t.Errorf("eval cluster reports %+v", r)
	}
	var knn, knnAgain knnReport
	twice(&knn, &knnAgain, "eval", "knn", "--train", path("train-shards"), "--val", path("val-shards"), "--k", "3")
	if len(knn.Models) != 2 || knn.Classes != 6 || knn.Train != 12 || knn.Val != 12 {
		t.Errorf("eval knn reports %+v", knn)
	}
	var same knnReport // an image's nearest neighbour is itself, unless left out
	decodeJSON(t, &same, "eval", "knn", "--checkpoint", path("run"), "--train", path("train-shards"), "--val", path("train-shards"), "--k", "1")
	if same.Models[0].Accuracy != 1 {
		t.Errorf("images find themselves in %g of the cases", same.Models[0].Accuracy)
	}
	var match, matchAgain matchReport
	twice(&match, &matchAgain, "eval", "match", "--shards", path("val-shards"), "--masks", path("val-masks"), "--pairs", "9")
	m := match.Models[0]
	if match.Cells != [2]int{4, 4} || m.Queries == 0 || m.Pairs == 0 || m.Pairs > 9 || m.Top1 > m.WithinOne || m.Inside == nil {
		t.Errorf("eval match reports %+v", match)
	}
	untrained := match.Models[1]
	decodeJSON(t, &match, "eval", "match", "--shards", path("val-shards"), "--pairs", "9", "--seed", "4", "--untrained", "--checkpoint", path("run"))
	if cmp.Equal(untrained.Positive, match.Models[1].Positive) {
		t.Error("another seed gives the same random weights")
	}
}

// TestProbeSeesPixproFeatures compares the maps of the evaluation with what
// pixpro features writes, bit for bit.
func TestProbeSeesPixproFeatures(t *testing.T) {
	path := evaluation(t)
	folder, err := evaluate.OpenFolder(t.Context(), path("val"), path("val-masks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"4", "3"} {
		e := encoderFlags{checkpoints: []string{path("run")}, which: "encoder", arch: "resnet18", stem: "small", width: 1, stage: int(stage[0] - '0'), threads: 2}
		sources, err := e.sources()
		if err != nil {
			t.Fatal(err)
		}
		x, free, err := e.open(sources[0])
		if err != nil {
			t.Fatal(err)
		}
		defer free()
		f, err := folderFeatures(t.Context(), x, "test", folder, e.size)
		if err != nil {
			t.Fatal(err)
		}
		for i, image := range folder.Images {
			mustRun(t, "features", "--checkpoint", path("run"), "--image", image, "--size", "32", "--stage", stage, "--out", path("features.safetensors"))
			file, err := safetensors.Read(path("features.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			tensor, _ := file.Tensor("features")
			want, err := tensor.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			cells := f.Rows * f.Cols
			got := make([]float32, len(want))
			for j, v := range f.Maps[i] {
				got[j%f.Channels*cells+j/f.Channels] = v
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("stage %s, %s:\n%s", stage, image, diff)
			}
		}
	}
}

func TestShowDrawsFeatures(t *testing.T) {
	path := evaluation(t)
	picture := filepath.Join(path("val"), "dots", "dots_0000.jpg")
	show := []string{"show", "--checkpoint", path("run"), "--untrained", "--out", path("sheet.png")}
	for _, args := range [][]string{
		{"--image", picture},
		{"--image", picture, "--at", "5,30"},
		{"--image", picture, "--image", filepath.Join(path("val"), "rings", "rings_0001.jpg"), "--at", "0,0", "--size", "48", "--stage", "3"},
	} {
		mustRun(t, append(show, args...)...)
		f, err := os.Open(path("sheet.png"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(f)
		f.Close()
		if err != nil || m.Bounds().Dx() < 700 {
			t.Errorf("%v: the picture cannot be used: %v", args, err)
		}
	}
	for _, args := range [][]string{
		{"--at", "1,2"},
		{"--image", picture, "--at", "1"},
		{"--image", picture, "--at", "5000,1"},
		{"--image", picture, "--shards", path("val-shards")},
	} {
		if code, _ := pixpro(t, append(show, args...)...); code != exitUsage {
			t.Errorf("%v ended with %d, want %d", args, code, exitUsage)
		}
	}
}

func TestOnObjectLiesDeepest(t *testing.T) {
	m := &evaluate.Mask{Width: 6, Height: 5, Classes: []uint8{
		1, 0, 2, 2, 2, 0,
		1, 0, 2, 2, 2, 0,
		1, 0, 2, 2, 2, 3,
		1, 0, 0, 0, 3, 3,
		1, 0, 0, 0, 3, 3,
	}}
	if at := onObject(m); at != [2]int{3, 1} {
		t.Errorf("the deepest pixel is %v, want 3, 1", at)
	}
	if at := onObject(&evaluate.Mask{Width: 2, Height: 2, Classes: make([]uint8, 4)}); at != [2]int{0, 0} {
		t.Errorf("without objects it is %v", at)
	}
}

func TestReadMaskRefusesOtherSizes(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		t.Fatal(err)
	}
	if _, err := readMask(dir, "a.jpg", 3, 2); err != nil {
		t.Error(err)
	}
	if _, err := readMask(dir, "a.jpg", 2, 3); err == nil {
		t.Error("a mask of another size is taken")
	}
	if _, err := readMask(dir, "b.jpg", 3, 2); err == nil {
		t.Error("a missing mask is taken")
	}
}

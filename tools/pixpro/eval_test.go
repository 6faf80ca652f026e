package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/safetensors"
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
		var r, again evaluate.DenseReport
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
	var r, again evaluate.DenseReport
	twice(&r, &again, append([]string{"eval", "cluster", "--clusters", "9"}, folders...)...)
	if len(r.Models) != 2 || r.Clusters != 9 || len(r.Models[0].ClassOf) != 9 || !(r.Models[0].MeanIoU > 0) {
		t.Errorf("eval cluster reports %+v", r)
	}
	var knn, knnAgain evaluate.KNNReport
	twice(&knn, &knnAgain, "eval", "knn", "--train", path("train-shards"), "--val", path("val-shards"), "--k", "3")
	if len(knn.Models) != 2 || knn.Classes != 6 || knn.Train != 12 || knn.Val != 12 {
		t.Errorf("eval knn reports %+v", knn)
	}
	var same evaluate.KNNReport // an image's nearest neighbour is itself, unless left out
	decodeJSON(t, &same, "eval", "knn", "--checkpoint", path("run"), "--train", path("train-shards"), "--val", path("train-shards"), "--k", "1")
	if same.Models[0].Accuracy != 1 {
		t.Errorf("images find themselves in %g of the cases", same.Models[0].Accuracy)
	}
	var match, matchAgain evaluate.MatchReport
	twice(&match, &matchAgain, "eval", "match", "--shards", path("val-shards"), "--masks", path("val-masks"), "--pairs", "9")
	m := match.Models[0]
	if m.Cells != [2]int{4, 4} || m.Queries == 0 || m.Pairs == 0 || m.Pairs > 9 || m.Top1 > m.WithinOne || m.Inside == nil {
		t.Errorf("eval match reports %+v", match)
	}
	untrained := match.Models[1]
	var seeded evaluate.MatchReport
	decodeJSON(t, &seeded, "eval", "match", "--shards", path("val-shards"), "--pairs", "9", "--seed", "4", "--untrained", "--checkpoint", path("run"))
	if *untrained.Positive == *seeded.Models[1].Positive {
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
		e := evaluate.Encoders{Checkpoints: []string{path("run")}, Which: "encoder", Arch: "resnet18", Stem: "small", Width: 1, Stage: int(stage[0] - '0'), Threads: 2}
		sources, err := e.Sources()
		if err != nil {
			t.Fatal(err)
		}
		x, free, err := e.Open(sources[0], 2)
		if err != nil {
			t.Fatal(err)
		}
		defer free()
		maps, err := x.Files(t.Context(), nil, folder.Images, e.Size)
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
			f := maps[i]
			cells := f.Rows * f.Cols
			got := make([]float32, len(want))
			for j, v := range f.Values {
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
	e := evaluate.Encoders{Untrained: true, Which: "encoder", Arch: "resnet18", Stem: "small", Width: 0.0625, Stage: 4, Threads: 2}
	sources, err := e.Sources()
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int][2]int{0: {6, 5}, 64: {8, 8}} { // of 45 x 40 pixels
		maps, err := featureMaps(t.Context(), &e, sources[0], []string{picture, picture}, size)
		if err != nil || [2]int{maps[0].Rows, maps[0].Cols} != want || !cmp.Equal(maps[0], maps[1]) {
			t.Errorf("at size %d, the maps are %d x %d and %d x %d, want %v (%v)", size, maps[0].Rows, maps[0].Cols, maps[1].Rows, maps[1].Cols, want, err)
		}
	}
	for _, args := range [][]string{
		{"--at", "1,2"},
		{"--image", picture, "--at", "1"},
		{"--image", picture, "--at", "5000,1"},
		{"--image", picture, "--shards", path("val-shards")},
		{"--image", picture, "--recipe", "none"},
		{"--image", picture, "--pairs", "3"},
		{"--shards", path("val-shards")},
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

// TestEvaluationOptions checks that each option does what it says.
func TestEvaluationOptions(t *testing.T) {
	path := evaluation(t)
	run := []string{"--checkpoint", path("run")}
	match := func(args ...string) evaluate.MatchResult {
		t.Helper()
		var r evaluate.MatchReport
		decodeJSON(t, &r, append(append([]string{"eval", "match", "--shards", path("val-shards"), "--pairs", "12"}, run...), args...)...)
		return r.Models[0]
	}
	base := match()
	for _, c := range [][]string{
		{"--which", "key-encoder"},
		{"--stage", "3"},
		{"--recipe", "none"},
		{"--crop", "0.9"},
		{"--pos-ratio", "0.3"},
		{"--size", "48"},
	} {
		if got := match(c...); *got.Positive == *base.Positive {
			t.Errorf("%v changes nothing: %+v", c, got)
		}
	}
	if got := match("--pos-ratio", "0.3"); got.Chance >= base.Chance {
		t.Errorf("chance is %g with a stricter --pos-ratio, %g without", got.Chance, base.Chance)
	}
	if got := match("--crop", "0.9"); got.Queries <= base.Queries {
		t.Errorf("%d queries with larger crops, %d without", got.Queries, base.Queries)
	}
	if got := match("--size", "48"); got.Cells != [2]int{6, 6} {
		t.Errorf("views of 48 pixels have %v cells", got.Cells)
	}
	weights, err := train.ReadWeights(path("run"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := weights.Encoder(train.KeyEncoded)
	if err != nil {
		t.Fatal(err)
	}
	e := evaluate.Encoders{Checkpoints: []string{path("run")}, Which: "key-encoder", Arch: "resnet18", Stem: "small", Width: 1, Stage: 4}
	if sources, err := e.Sources(); err != nil || !cmp.Equal(sources[0].Weights, key, cmp.AllowUnexported(safetensors.Tensor{})) {
		t.Errorf("--which key-encoder takes other tensors (%v)", err)
	}

	cluster := append([]string{"eval", "cluster", "--val", path("val"), "--val-masks", path("val-masks")}, run...)
	var r evaluate.DenseReport
	decodeJSON(t, &r, append(cluster, "--classes", "9")...)
	if m := r.Models[0]; r.Classes != 9 || r.Clusters != 9 || len(m.IoU) != 9 {
		t.Errorf("of 9 classes: %+v", r)
	}
	for _, bad := range [][]string{
		{"--classes", "3"}, {"--clusters", "3"}, {"--iterations", "-5"}, {"--threads", "-3"}, {"--size", "100000"}, {"--stage", "5"}, {"--which", "other"},
	} {
		if code, _ := pixpro(t, append(cluster, bad...)...); code != exitUsage {
			t.Errorf("%v ended with %d, want %d", bad, code, exitUsage)
		}
	}
}

// TestEvaluationLimits: images of more pixels than may be are refused by all.
func TestEvaluationLimits(t *testing.T) {
	path := evaluation(t)
	images, err := filepath.Glob(filepath.Join(path("val"), "*", "*"))
	if err != nil || len(images) == 0 {
		t.Fatalf("images %v (%v)", images, err)
	}
	run, val := []string{"--checkpoint", path("run")}, []string{"--val", path("val"), "--val-masks", path("val-masks")}
	for _, args := range [][]string{
		append([]string{"eval", "segment", "--train", path("train"), "--masks", path("train-masks")}, val...),
		append([]string{"eval", "cluster"}, val...),
		{"eval", "knn", "--train", path("train-shards"), "--k", "3"},
		{"eval", "match", "--shards", path("val-shards")},
		{"features", "--image", images[0]},
		{"show", "--image", images[0], "--out", path("x.png")},
	} {
		code, out := execute(t.Context(), append(append(args, run...), "--max-pixels", "999"))
		if code == 0 || !strings.Contains(out, "the limit (--max-pixels) is 999") {
			t.Errorf("%v ended with %d: %s", args[:2], code, out)
		}
	}
	code, out := execute(t.Context(), []string{"show", "--shards", path("val-shards"), "--out", path("x.png"), "--max-pixels", "999"})
	if code == 0 || !strings.Contains(out, "the limit (--max-pixels) is 999") {
		t.Errorf("show --shards ended with %d: %s", code, out)
	}
}

// TestMatchIsOfBothViews computes eval match anew from a pipeline's pairs, one
// batch of all.
func TestMatchIsOfBothViews(t *testing.T) {
	path := evaluation(t)
	const pairs = 40 // more than a batch, and than the images
	e := evaluate.Encoders{Untrained: true, Which: "encoder", Arch: "resnet18", Stem: "small", Width: 0.0625, Stage: 4, Size: 32, Threads: 2, Seed: 8}
	sources, err := e.Sources()
	if err != nil {
		t.Fatal(err)
	}
	got, err := evaluate.MatchRun{Encoders: e, Shards: path("val-shards"), Recipe: "byol", Pairs: pairs, Masks: path("val-masks"), Ratio: 0.7}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	cfg, dataset, err := (&viewFlags{shards: path("val-shards"), recipe: "byol", size: 32, seed: 8}).open(pipeline.Config{BatchSize: pairs, KeepLast: true, Limit: pairs})
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	p, err := pipeline.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d := cpu.New(1)
	defer d.Close()
	encoder := train.RandomEncoder(d, sources[0].ResNet, 8)
	m := evaluate.NewMatcher(4, 4, 32, 0.7)
	for p.Next() {
		b, err := pipeline.NewBatch(p.Record())
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			var views [2]evaluate.View
			for v := range views {
				pixels := b.Views(v)[i*3*32*32 : (i+1)*3*32*32]
				f, err := encoder.Features(augment.Planes{Width: 32, Height: 32, Pix: pixels}, 4)
				if err != nil {
					t.Fatal(err)
				}
				views[v] = evaluate.View{Map: f.Values, Coord: [4]float32(b.Coords(v)[4*i:])}
			}
			s, err := cfg.Dataset.Sample(b.Index()[i])
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(path("val-masks"), strings.TrimSuffix(filepath.FromSlash(s.Key), ".jpg")+".png"))
			if err != nil {
				t.Fatal(err)
			}
			mask, err := evaluate.DecodeMask(data)
			if err != nil {
				t.Fatal(err)
			}
			m.Add(views[0], views[1], &mask)
		}
	}
	if diff := cmp.Diff(m.Scores(), got.Models[0].MatchScores); p.Err() != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", p.Err(), diff)
	}
}

// TestMatchSaysWhatIsMissing: masks, and images that can be read.
func TestMatchSaysWhatIsMissing(t *testing.T) {
	path := evaluation(t)
	if err := os.Remove(filepath.Join(path("val-masks"), "dots", "dots_0000.png")); err != nil {
		t.Fatal(err)
	}
	run := evaluate.MatchRun{
		Encoders: evaluate.Encoders{Untrained: true, Which: "encoder", Arch: "resnet18", Stem: "small", Width: 0.0625, Stage: 4, Size: 32, Threads: 1},
		Shards:   path("val-shards"), Recipe: "none", Pairs: 4, Ratio: 0.7,
	}
	masked := run
	masked.Masks = path("val-masks")
	_, err := masked.Run(t.Context())
	if !errors.Is(err, evaluate.ErrUnmatched) || !strings.Contains(err.Error(), "dots/dots_0000.jpg has no mask") {
		t.Errorf("without a mask: %v", err)
	}
	narrow := run
	narrow.Ratio = 1e-9
	if _, err = narrow.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "untrained: ") || !strings.Contains(err.Error(), "pos-ratio") {
		t.Errorf("without a match: %v", err)
	}

	// Headers without pixels.
	const images = 5
	for i := range images {
		file := filepath.Join(path("cut"), "a", fmt.Sprintf("%d.jpg", i))
		data, err := os.ReadFile(filepath.Join(path("val"), "dots", "dots_0000.jpg"))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, data[:700], 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "shard", "--in", path("cut"), "--out", path("cut-shards"))
	run.Shards = path("cut-shards")
	var bad *pipeline.TooManyBadError
	if _, err = run.Run(t.Context()); !errors.As(err, &bad) {
		t.Errorf("of %d images that cannot be read: %v", images, err)
	}
}

// TestNeighborsKnowClassesByName: other shards number them otherwise, or have
// images of none.
func TestNeighborsKnowClassesByName(t *testing.T) {
	path := evaluation(t)
	if err := os.CopyFS(path("some"), os.DirFS(path("train"))); err != nil {
		t.Fatal(err)
	}
	classes, err := os.ReadDir(path("some"))
	if err != nil {
		t.Fatal(err)
	}
	// Of the first class there is an image without a class left.
	first := filepath.Join(path("some"), classes[0].Name())
	images, err := os.ReadDir(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(filepath.Join(first, images[0].Name()), filepath.Join(path("some"), "no class.jpg")), os.RemoveAll(first)); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "shard", "--in", path("some"), "--out", path("some-shards"))
	knn := []string{"eval", "knn", "--checkpoint", path("run"), "--k", "1", "--train"}
	var r evaluate.KNNReport
	decodeJSON(t, &r, append(knn, path("train-shards"), "--val", path("some-shards"))...)
	if r.Val != 12-len(images) || r.Models[0].Accuracy != 1 {
		t.Errorf("images find themselves in %g of %d cases, want all of %d", r.Models[0].Accuracy, r.Val, 12-len(images))
	}
	for _, more := range [][]string{{"--k", "12"}, {"--k", "13", "--val", path("train-shards")}, {"--k", "0"}} {
		if code, _ := pixpro(t, append(append(knn, path("train-shards")), more...)...); code != exitUsage {
			t.Errorf("%v of 12 images ended with %d, want %d", more, code, exitUsage)
		}
	}
	if code, _ := pixpro(t, append(knn, path("some-shards"), "--val", path("train-shards"))...); code != exitFailed {
		t.Errorf("images of a class that the neighbours lack: ended with %d, want %d", code, exitFailed)
	}
}

func TestTablesHaveTheNumbersUnderTheirNames(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	dense := evaluate.DenseReport{Models: []evaluate.DenseResult{{Model: "run", Step: 9, Scores: evaluate.Scores{MeanIoU: 0.25, Accuracy: 0.75, IoU: []*float64{number(0.5), nil, number(0)}}}}}
	match := evaluate.MatchReport{Models: []evaluate.MatchResult{{Model: "run", MatchScores: evaluate.MatchScores{
		Top1: 0.11, WithinOne: 0.22, Chance: 0.03, Positive: number(0.4), Negative: number(0.05), Inside: number(0.6),
	}}}}
	knn := evaluate.KNNReport{K: 7, Models: []evaluate.KNNResult{{Model: "run", Accuracy: 0.875}}}
	demo := demoScores{Models: []demoScore{{"trained", 0.1, 0.2, 0.3, 0.4, 0.5}}}
	for _, c := range []struct{ got, want string }{
		{denseTable(&dense, "mIoU"), "weights       mIoU  pixel accuracy  IoU of each class\nrun (step 9)  25.0  75.0            50.0 - 0.0\n"},
		{matchTable(&match), "weights  top-1  within one  chance  positive  negative  inside  across\nrun      11.0   22.0        3.0     0.400     0.050     0.600   -\n"},
		{knnTable(&knn), "weights  7-NN accuracy\nrun      87.5\n"},
		{demo.table(), "features  mIoU  pixel accuracy  cluster mIoU  match  match within one cell\ntrained   10.0  20.0            30.0          40.0   50.0\n"},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestCellAtAPixel(t *testing.T) {
	for _, c := range []struct {
		x, y, want int
	}{{0, 0, 0}, {39, 0, 3}, {10, 0, 1}, {9, 19, 4}, {39, 29, 11}, {25, 10, 6}} {
		if got := cellAt([2]int{c.x, c.y}, 40, 30, 3, 4); got != c.want {
			t.Errorf("pixel %d, %d of 40 x 30 lies in cell %d of 3 x 4, want %d", c.x, c.y, got, c.want)
		}
	}
}

// TestColoursAreStretchedComponents of all maps together.
func TestColoursAreStretchedComponents(t *testing.T) {
	// Cells on a line, the first map at its ends.
	maps := []train.FeatureMap{
		{Rows: 1, Cols: 2, Channels: 2, Values: []float32{-2, -4, 2, 4}},
		{Rows: 3, Cols: 1, Channels: 2, Values: []float32{0, 0, 1, 2, -1, -2}},
	}
	drawn, err := colourMaps(t.Context(), maps)
	if err != nil {
		t.Fatal(err)
	}
	want := []figure.FeatureMap{
		{Rows: 1, Cols: 2, Colours: []float64{0, 0, 0, 1, 0, 0}},
		{Rows: 3, Cols: 1, Colours: []float64{0.5, 0, 0, 0.75, 0, 0, 0.25, 0, 0}},
	}
	if diff := cmp.Diff(want, drawn, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := colourMaps(t.Context(), []train.FeatureMap{{Rows: 1, Cols: 1, Channels: 2, Values: []float32{1, 2}}}); err == nil || !strings.Contains(err.Error(), "--size") {
		t.Errorf("of one cell: %v", err)
	}
}

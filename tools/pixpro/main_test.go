package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// pixpro runs a command line with standard output in a file and returns the
// exit code and the output.
func pixpro(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	code := run(t.Context(), append(args, "--log-level", "warn"))
	os.Stdout = stdout
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

// mustRun runs a command line that must succeed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out := pixpro(t, args...)
	if code != exitFine {
		t.Fatalf("pixpro %s ended with %d", strings.Join(args, " "), code)
	}
	return out
}

// TestFromImagesToBackbone runs all that a user runs, one command after the other.
func TestFromImagesToBackbone(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := synth.Generate(t.Context(), path("images"), synth.Options{Images: 14, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}

	var sharded struct {
		Rows     int `json:"rows"`
		Rejected int `json:"rejected"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, "shard", "--in", path("images"), "--out", path("shards"), "--json")), &sharded); err != nil || sharded.Rows != 14 || sharded.Rejected != 0 {
		t.Fatalf("sharding reports %+v (%v), want 14 rows", sharded, err)
	}
	if code, _ := pixpro(t, "shard", "--in", path("images"), "--out", path("shards")); code != exitFailed {
		t.Errorf("sharding into a used folder ended with %d, want %d", code, exitFailed)
	}
	mustRun(t, "verify", "--shards", path("shards"))

	mustRun(t, "show", "--shards", path("shards"), "--out", path("views.png"), "--pairs", "3", "--size", "64")
	views, err := os.Open(path("views.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer views.Close()
	if m, err := png.Decode(views); err != nil || m.Bounds().Dx() < 500 {
		t.Errorf("views.png cannot be used: %v", err)
	}

	checkStream(t, path("shards"), path("pairs.arrow"), path("pairs.arrows"))

	training := []string{
		"train", "--shards", path("shards"), "--output", path("run"), "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
		"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "4", "--json",
	}
	var plan train.Plan
	if err := json.Unmarshal([]byte(mustRun(t, append(training, "--epochs", "1", "--dry-run")...)), &plan); err != nil || plan.TotalSteps != 3 || plan.Cells != 4 {
		t.Errorf("the plan is %+v (%v), want 3 steps on 4 cells", plan, err)
	}
	last := lastMetrics(t, mustRun(t, append(training, "--epochs", "1")...))
	if last.Step != 3 || last.Epoch != 1 {
		t.Errorf("one epoch ends with %+v, want step 3", last)
	}
	last = lastMetrics(t, mustRun(t, append(training, "--epochs", "2", "--resume", "auto")...))
	if last.Step != 6 || last.Epoch != 2 {
		t.Errorf("the resumed run ends with %+v, want step 6", last)
	}
	// What a recipe says counts, not where it is written.
	if err := os.WriteFile(path("recipe.json"), []byte(strings.Replace(mustRun(t, "augment", "--print-recipe"), `"byol"`, `"mine"`, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	third := append(training, "--epochs", "3", "--resume", "auto", "--recipe", path("recipe.json"))
	if code, _ := pixpro(t, append(third, "--crop", "0.5")...); code != exitFailed {
		t.Errorf("resuming with another crop ended with %d, want %d", code, exitFailed)
	}
	if last = lastMetrics(t, mustRun(t, third...)); last.Step != 9 {
		t.Errorf("the run resumed with its recipe from a file ends with %+v, want step 9", last)
	}
	if info, err := os.Stat(path("run/loss.png")); err != nil || info.Size() == 0 {
		t.Errorf("no loss curve: %v", err)
	}

	for _, which := range []string{"encoder", "key-encoder"} {
		mustRun(t, "export", "--checkpoint", path("run"), "--which", which, "--out", path("backbone.safetensors"))
		f, err := safetensors.Read(path("backbone.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		if conv, ok := f.Tensor("conv1.weight"); !ok || len(conv.Shape) != 4 || len(f.Names()) != 100 {
			t.Errorf("the exported %s has %d tensors, conv1.weight %v; want 100 of ResNet-18", which, len(f.Names()), conv.Shape)
		}
	}
}

// TestWeightsGoOutAndComeBack exports a checkpoint in every format, starts
// training from the files that can be read, and looks into what came of it.
func TestWeightsGoOutAndComeBack(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := synth.Generate(t.Context(), path("images"), synth.Options{Images: 8, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "shard", "--in", path("images"), "--out", path("shards"))
	training := func(output string, more ...string) []string {
		return append([]string{
			"train", "--shards", path("shards"), "--output", path(output), "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
			"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "4", "--epochs", "1", "--warmup-epoch", "1",
		}, more...)
	}
	mustRun(t, training("run")...)
	pictures, err := filepath.Glob(path("images/*/*"))
	if err != nil || len(pictures) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	features := func(checkpoint string, more ...string) string {
		args := append([]string{"features", "--checkpoint", checkpoint, "--image", pictures[0], "--out", path("features.safetensors")}, more...)
		mustRun(t, args...)
		data, err := os.ReadFile(path("features.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	want := features(path("run"))
	if other := features(path("run"), "--which", "key-encoder"); other == want {
		t.Error("both encoders give the same features")
	}
	for _, format := range []string{"safetensors", "torchvision", "full"} {
		file := path("weights-" + format)
		mustRun(t, "export", "--checkpoint", path("run"), "--format", format, "--out", file)
		if got := features(file, "--arch", "resnet18", "--stem", "small", "--width", "0.0625"); got != want {
			t.Errorf("format %s: the file gives other features than the checkpoint", format)
		}
		// With a rate of 0 the query branch's parameters stay.
		mustRun(t, training("init-"+format, "--init", file, "--base-lr", "0")...)
		var d train.Difference
		if err := json.Unmarshal([]byte(mustRun(t, "checkpoint", "diff", path("run"), path("init-"+format), "--json")), &d); err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Changed {
			taken := strings.HasPrefix(c.Name, "encoder.") || format == "full" && !strings.Contains(c.Name, "_k.")
			if taken && !strings.Contains(c.Name, "running") {
				t.Errorf("format %s: %s changed by --init", format, c.Name)
			}
		}
		if d.Equal == 0 || len(d.OnlyA)+len(d.OnlyB)+len(d.Shapes) > 0 {
			t.Errorf("format %s: difference %+v", format, d)
		}
	}
	mustRun(t, "export", "--checkpoint", path("run"), "--format", "detectron2", "--which", "key-encoder", "--out", path("backbone.pkl"))
	for _, file := range []string{path("run"), path("weights-full")} {
		if out := mustRun(t, "checkpoint", "show", file); !strings.Contains(out, "encoder_k.layer4.1.bn2.weight ") {
			t.Errorf("show prints\n%s", out)
		}
	}
	var shown train.Description
	if err := json.Unmarshal([]byte(mustRun(t, "checkpoint", "show", path("run"), "--json")), &shown); err != nil || shown.State.Step != 2 || len(shown.Tensors) != 218 {
		t.Errorf("show reports step %d and %d tensors (%v), want 2 and 218", shown.State.Step, len(shown.Tensors), err)
	}
	for _, bad := range [][]string{
		training("bad", "--init", path("weights-full"), "--width", "0.125"), // shapes
		training("bad", "--init", path("shards/manifest.json")),             // no weights
		training("bad", "--init", path("missing")),
		{"features", "--checkpoint", path("weights-full"), "--image", pictures[0], "--arch", "resnet50"},
		{"features", "--checkpoint", path("run"), "--image", path("shards/manifest.json")},
	} {
		if code, _ := pixpro(t, bad...); code != exitFailed {
			t.Errorf("pixpro %s ended with %d, want %d", strings.Join(bad, " "), code, exitFailed)
		}
	}
}

func lastMetrics(t *testing.T, out string) (m train.Metrics) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return m
}

// checkStream writes the same pairs as a file and as a stream and compares them.
func checkStream(t *testing.T, shards, file, stream string) {
	t.Helper()
	for _, out := range []string{file, stream} {
		mustRun(t, "augment", "--shards", shards, "--out", out, "--size", "24", "--batch", "4", "--seed", "3", "--epochs", "2", "--limit", "18")
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fromFile, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer fromFile.Close()
	s, err := os.Open(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fromStream, err := ipc.NewReader(s)
	if err != nil {
		t.Fatal(err)
	}
	defer fromStream.Release()
	rows := 0
	for i := range fromFile.NumRecords() {
		rec, err := fromFile.Record(i)
		if err != nil {
			t.Fatal(err)
		}
		a, err := pipeline.NewBatch(rec)
		if err != nil {
			t.Fatal(err)
		}
		if !fromStream.Next() {
			t.Fatalf("the stream ends at batch %d: %v", i, fromStream.Err())
		}
		b, err := pipeline.NewBatch(fromStream.Record())
		if err != nil {
			t.Fatal(err)
		}
		if a.Size() != 24 || !bytes.Equal(a.Views(0), b.Views(0)) || !bytes.Equal(a.Views(1), b.Views(1)) {
			t.Errorf("batch %d differs between file and stream", i)
		}
		rows += a.Len()
	}
	if rows != 18 || fromStream.Next() {
		t.Errorf("%d pairs were written, want 18", rows)
	}
}

// TestWrongUsageEndsWithTwo has wrong command lines, and what each is told.
func TestWrongUsageEndsWithTwo(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"no-such-command", "unknown command \"no-such-command\""},
		{"trian", "Did you mean this?\n\ttrain"},
		{"shard", "--out is needed"},
		{"shard --in x", "--out is needed"},
		{"shard --out y", "--in is needed"},
		{"shard --in x --out y --shard-size big", "invalid argument \"big\" for \"--shard-size\" flag: use a size such as 256MiB"},
		{"shard --in x --out y --format rar", "Format is \"rar\", must be one of folder, list, tar"},
		{"show --shards x --out y --pairs 0", "--pairs 0: use 1 to 64"},
		{"augment --shards x --recipe no-such-recipe --out y", "--recipe: augment: no recipe is called \"no-such-recipe\"; there are [\"byol\""},
		{"augment --shards x --crop 2 --out y", "crop_scale"},
		{"augment --shards x --compression gzip --out y", "--compression gzip: use none, zstd or lz4"},
		{"augment --shards x --start 3 --out y", "\"3\" for \"--start\" flag: use an epoch and an offset"},
		{"augment --shards x --keep-last --drop-last --out y", "keep-last"},
		{"bench loader", "--shards is needed"},
		{"bench loader --shards x --pairs 0", "--pairs 0"},
		{"train --shards x", "--output is needed"},
		{"train --output y", "--shards is needed"},
		{"train --shards x --output y --arch vgg", "--arch vgg: unknown architecture \"vgg\": use one of resnet101"},
		{"train --shards x --output y --save-every never", "invalid argument \"never\" for \"--save-every\" flag"},
		{"train --shards x --output y --batch 1.5", "invalid argument \"1.5\" for \"--batch\" flag: must be a whole number"},
		{"train --shards x --output y --epochs 0", "--epochs 0: must be at least 1"},
		{"train --shards x --output y --method moco", "--method moco: use densecl, instance, pixcontrast or pixpro"},
		{"train --shards x --output y --dry-run --precision banana", "--precision banana: use fp32, tf32 or bf16"},
		{"train --shards x --output y --dry-run --device toaster", "--device toaster: use auto, cpu, cuda"},
		{"train --shards x --output y --dry-run --recipe nosuch", "--recipe nosuch: no recipe is called \"nosuch\""},
		{"train --shards x --output y --precision tf32", "--precision tf32: device cpu computes in fp32 or bf16 only"},
		{"train --config no-such-file.yaml", "no-such-file.yaml"},
		{"train --preset no-such-preset", "--preset no-such-preset: use densecl-200ep"},
		{"train --no-such-flag", "unknown flag: --no-such-flag"},
		{"train extra", "unknown command \"extra\""},
		{"bench step --steps 0", "--steps 0: must be positive"},
		{"bench step --arch vgg", "--arch vgg"},
		{"bench step --device gpu", "--device gpu"},
		{"bench convolutions --device gpu", "--device gpu"},
		{"bench convolutions --steps 0", "--steps 0: must be positive"},
		{"export --checkpoint x", "--out is needed"},
		{"export --checkpoint x --out y --format onnx", "--format onnx: use one of safetensors, torchvision, detectron2, full"},
		{"export --checkpoint x --out y --format full --which encoder", "--which encoder: format full has both encoders"},
		{"export --checkpoint x --out y --which both", "--which both: use encoder or key-encoder"},
		{"features --checkpoint x", "--image is needed"},
		{"features --checkpoint x --image y --size -1", "--size -1: use up to 8192"},
		{"features --checkpoint x --image y --stage 5", "--stage 5: use 1 to 4"},
		{"features --checkpoint x --image y --max-pixels -1", "--max-pixels -1: must not be negative"},
		{"eval segment --checkpoint x", "--train is needed"},
		{"eval segment --train x --masks x --val x --val-masks x", "--checkpoint \"\": name weights with it or with init"},
		{"eval segment --untrained --arch vgg --train x --masks x --val x --val-masks x", "--arch vgg"},
		{"eval segment --untrained --probe deep --train x --masks x --val x --val-masks x", "--probe deep: use linear or mlp"},
		{"eval cluster --untrained --val x --val-masks x --clusters -1", "--clusters -1: must not be negative"},
		{"eval knn --untrained --train x --k 0", "--k 0: must be at least 1"},
		{"eval match --untrained --shards x --pairs 0", "--pairs 0: must be at least 1"},
		{"eval match --untrained --shards x --pos-ratio 0", "--pos-ratio 0: must be above 0"},
		{"eval match --shards x", "--checkpoint \"\": name weights"},
		{"show --out x --checkpoint y", "--checkpoint is for features: give the picture with --image"},
		{"demo dataset --out x --images -1", "-1"},
		{"checkpoint diff x", "accepts 2 arg(s), received 1"},
		{"demo --out .", ". is not empty"},
		{"version --log-level loud", "log-level \"loud\": use debug, info, warn or error"},
	} {
		code, message := execute(t.Context(), strings.Fields(c.line))
		if code != exitUsage || !strings.Contains(message, c.want) || !strings.Contains(message, "--help' for usage.") {
			t.Errorf("pixpro %s ended with %d, want %d, and said %q, want %q", c.line, code, exitUsage, message, c.want)
		}
	}
}

func TestFailureEndsWithOne(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{
		{"shard", "--in", missing, "--out", filepath.Join(t.TempDir(), "out")},
		{"verify", "--shards", missing},
		{"augment", "--shards", missing, "--out", filepath.Join(t.TempDir(), "x.arrow")},
		{"train", "--shards", missing, "--output", t.TempDir()},
		{"export", "--checkpoint", missing, "--out", filepath.Join(t.TempDir(), "x")},
	} {
		code, message := execute(t.Context(), args)
		if code != exitFailed || !strings.Contains(message, missing) {
			t.Errorf("pixpro %s ended with %d, want %d, and said %q, which must name %s", strings.Join(args, " "), code, exitFailed, message, missing)
		}
	}
}

func TestFlagsComeBeforeConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(file, []byte("arch: resnet34\nbatch: 7\nlr-decay-epochs: [1, 2, 3]\nsave-every: 5steps\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	cfg := options.Default()
	cmd := &cobra.Command{}
	addOptions(cmd.Flags(), &cfg)
	if err := cmd.ParseFlags([]string{"--batch", "9", "--seed", "4", "--lr-decay-epochs", "5,6"}); err != nil {
		t.Fatal(err)
	}
	cfg, err := layered(cmd.Flags(), "pixcontrast-100ep", file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := options.Preset("pixcontrast-100ep")
	if err != nil {
		t.Fatal(err)
	}
	want.Arch, want.BatchSize, want.Seed, want.SaveEvery = "resnet34", 9, 4, options.Interval{Steps: 5}
	want.LRDecayEpochs = []int{5, 6}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// TestEveryCommandHasExamples holds all commands to a short and a long
// description and to examples, whose flags exist.
func TestEveryCommandHasExamples(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s --help has no example or no description", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " | ")
			for strings.HasPrefix(line, "PIXPRO_") { // an environment variable
				_, line, _ = strings.Cut(line, " ")
			}
			args, ok := strings.CutPrefix(line, "pixpro ")
			if !ok {
				if line != "" && !strings.HasPrefix(line, "#") {
					t.Errorf("%s --help has the example %q, which is no command line", cmd.CommandPath(), line)
				}
				continue
			}
			found, rest, err := newRoot().Find(strings.Fields(args))
			if err != nil {
				t.Errorf("%s --help: %q: %v", cmd.CommandPath(), line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s --help: %q: %v", cmd.CommandPath(), line, err)
			}
		}
		for _, sub := range cmd.Commands() {
			if !sub.Hidden && sub.Name() != "help" {
				visit(sub)
			}
		}
	}
	visit(newRoot())
}

func TestBenchStepReportsItsFigures(t *testing.T) {
	var b stepBench
	out := mustRun(t, "bench", "step", "--arch", "resnet18", "--width", "0.0625", "--size", "32", "--batch", "2", "--steps", "2", "--json")
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		t.Fatal(err)
	}
	if b.SecondsPerStep <= 0 || b.PairsPerSecond <= 0 || b.GFLOPS <= 0 || b.LimitGFLOPS <= 0 || b.PeakRSSBytes < 1<<20 {
		t.Errorf("the report is %+v", b)
	}
}

func TestVersionNamesTheFasterParts(t *testing.T) {
	var v versionInfo
	if err := json.Unmarshal([]byte(mustRun(t, "version", "--json")), &v); err != nil || v.MatrixProducts == "" || v.CPU == "" {
		t.Errorf("version reports %+v (%v)", v, err)
	}
}

func TestWriteFileKeepsLinksAndDevices(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	write := func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }
	if err := atomicfile.WriteTo(link, write); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(target); err != nil || string(data) != "new" {
		t.Errorf("the link's target is %q (%v), want new", data, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"256MiB": 256 << 20, "1.5GB": 15e8, "4096": 4096, "7KiB": 7 << 10, "12B": 12} {
		var got byteSize
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
		var again byteSize
		if err := again.Set(got.String()); err != nil || again != want {
			t.Errorf("%d prints as %q, which is %d (%v)", want, got.String(), again, err)
		}
	}
	for _, text := range []string{"", "big", "-1MiB", "0", "NaN", "1e300GB"} {
		var b byteSize
		if b.Set(text) == nil {
			t.Errorf("%q was read as %d bytes", text, b)
		}
	}
}

// TestMistypedNames has commands and options that are nearly right.
func TestMistypedNames(t *testing.T) {
	for line, want := range map[string]string{
		"trian":            "Did you mean this?\n\ttrain",
		"train --ouptut x": "unknown flag: --ouptut, did you mean --output?",
		"shard --ot x":     "unknown flag: --ot, did you mean --out?",
		"eval segmnt":      `eval has no command "segmnt", did you mean segment?`,
		"checkpoint shwo":  `checkpoint has no command "shwo", did you mean show?`,
		"bench --nothing":  "unknown flag: --nothing\n",
	} {
		if code, said := execute(t.Context(), strings.Fields(line)); code != exitUsage || !strings.Contains(said, want) {
			t.Errorf("pixpro %s ends with %d and says %q, want %q", line, code, said, want)
		}
	}
}

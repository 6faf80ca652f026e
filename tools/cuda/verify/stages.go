//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// stages are in the order of what they tell for the time that they take.
func (v *verifier) stages() []stage {
	return []stage{
		{stopsAll, 15, v.card},
		{"device suite: every operation at every precision", 60, v.deviceSuite},
		{"step time", 40, v.stepTime},
		{"step time beside PyTorch", 90, v.besidePyTorch},
		{"convolutions beside PyTorch", 45, v.convolutions},
		{"other batches and workspaces", 40, v.sweep},
		{"counters of the longest kernels", 60, v.counters},
		{"sums over many rows; equal bits from run to run", 50, v.sums},
		{"golden runs; training from shards", 80, v.training},
		{"memory and races", 100, v.sanitizer},
		{"small model: resnet18 at 96 pixels", 20, v.smallModel},
	}
}

// find looks for one of NVIDIA's tools on PATH and where toolkits lie.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, pattern := range []string{"/usr/local/cuda*/bin/", "/opt/nvidia/*/*/", "/usr/local/cuda*/compute-sanitizer/"} {
		if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", leftOut(name + " is not on PATH or below /usr/local/cuda")
}

func (v *verifier) program() string { return filepath.Join(v.pack, "pixpro-cuda") }

// pixpro runs the program and decodes its JSON.
func (v *verifier) pixpro(ctx context.Context, into any, args ...string) error {
	out, err := v.command(ctx, true, nil, v.program(), append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("pixpro-cuda %s: %w: %.200q", args[0], err, out)
	}
	return nil
}

// card says what the machine has.
func (v *verifier) card(ctx context.Context) (any, error) {
	kernel, _ := os.ReadFile("/proc/version")
	fmt.Fprintf(v.log, "%s/%s, %d threads, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), bytes.TrimSpace(kernel))
	if smi, err := find("nvidia-smi"); err == nil {
		if _, err := v.command(ctx, false, nil, smi, "--query-gpu=name,memory.total,driver_version,clocks.max.sm,clocks.max.memory,power.limit", "--format=csv"); err != nil {
			return nil, err
		}
	}
	var devices struct {
		Driver    string           `json:"driver"`
		Toolkit   string           `json:"toolkit"`
		Libraries []map[string]any `json:"libraries"`
		Missing   string           `json:"missing"`
		NoCards   string           `json:"no_cards"`
		Cards     []struct {
			Name              string `json:"name"`
			MemoryBytes       int64  `json:"memory_bytes"`
			ComputeCapability string `json:"compute_capability"`
			BF16              bool   `json:"bf16"`
		} `json:"cards"`
	}
	if err := v.pixpro(ctx, &devices, "devices"); err != nil {
		return nil, err
	}
	if _, err := v.command(ctx, false, nil, v.program(), "version"); err != nil {
		return nil, err
	}
	if len(devices.Cards) == 0 || devices.Missing != "" {
		return devices, errors.New(strings.TrimSpace(devices.NoCards + " " + devices.Missing))
	}
	v.precisions = []string{"fp32"}
	if devices.Cards[0].BF16 {
		v.precisions = []string{"bf16", "tf32", "fp32"}
	}
	if v.short {
		v.precisions = v.precisions[:1]
	}
	fmt.Fprintf(v.log, "%+v\n", devices)
	return devices, nil
}

// test runs a test binary and counts its tests.
func (v *verifier) test(ctx context.Context, binary, run, skip string) (any, error) {
	args := []string{"-test.v", "-test.run", run}
	if skip != "" {
		args = append(args, "-test.skip", skip)
	}
	if v.short {
		args = append(args, "-test.short")
	}
	out, err := v.command(ctx, false, nil, filepath.Join(v.pack, "tests", binary), args...)
	counts := map[string]int{}
	var failing []string
	for _, m := range regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`).FindAllSubmatch(out, -1) {
		counts[strings.ToLower(string(m[1]))]++
		if string(m[1]) == "FAIL" {
			failing = append(failing, string(m[2]))
		}
	}
	if err == nil && counts["pass"] == 0 {
		err = errors.New("no test ran")
	}
	return map[string]any{"tests": counts, "failed": failing}, err
}

func (v *verifier) deviceSuite(ctx context.Context) (any, error) {
	run := "."
	if v.short {
		run = "^Test(LowerPrecisions|LargeUploadArrives)$/^bf16$"
	}
	return v.test(ctx, "cuda.test", run, "^TestSums")
}

// step is what bench step and torch_step.py say.
type step struct {
	Batch                int     `json:"batch"`
	SecondsPerStep       float64 `json:"seconds_per_step"`
	PairsPerSecond       float64 `json:"pairs_per_second"`
	DeviceSecondsPerStep float64 `json:"device_seconds_per_step,omitempty"`
	DevicePeakBytes      int64   `json:"device_peak_bytes,omitempty"`
	Kernels              []struct {
		Name        string  `json:"name"`
		Calls       int     `json:"calls"`
		Seconds     float64 `json:"seconds"`
		GBPerSecond float64 `json:"gb_per_second"`
		GFLOPS      float64 `json:"gflops"`
	} `json:"kernels,omitempty"`
	Torch     string `json:"torch,omitempty"`
	PeakBytes int64  `json:"peak_memory_bytes,omitempty"`
}

// settings are those of commands that make steps.
func (v *verifier) settings(precision, arch string, size, batch, steps int) []string {
	return []string{"--device", "cuda", "--precision", precision, "--arch", arch, "--width", v.width,
		"--size", strconv.Itoa(size), "--batch", strconv.Itoa(batch), "--steps", strconv.Itoa(steps)}
}

func (v *verifier) bench(ctx context.Context, precision, arch string, size, batch int) (s step, err error) {
	err = v.pixpro(ctx, &s, append([]string{"bench", "step"}, v.settings(precision, arch, size, batch, v.steps)...)...)
	if err == nil {
		fmt.Fprintf(v.log, "%s, %d px, %d pairs, %s: %.4f s a step (%.4f by events), %.1f pairs/s, %d MiB\n",
			arch, size, batch, precision, s.SecondsPerStep, s.DeviceSecondsPerStep, s.PairsPerSecond, s.DevicePeakBytes>>20)
	}
	return s, err
}

// tooLarge is what pixpro says of a batch that the card has no memory for.
var tooLarge = regexp.MustCompile("does not fit|for another tensor|no memory left")

// stepTime times steps at all precisions, with a table of kernels.
func (v *verifier) stepTime(ctx context.Context) (any, error) {
	figures, all := map[string]step{}, error(nil)
	v.fits = map[string]int{}
	for _, precision := range v.precisions {
		var s step
		err := errors.New("no batch fits")
		for batch := v.batch; batch > 0; batch /= 2 {
			if s, err = v.bench(ctx, precision, v.arch, v.size, batch); err == nil {
				v.fits[precision], figures[precision] = batch, s
				break
			}
			if !tooLarge.MatchString(err.Error()) {
				break
			}
		}
		all = errors.Join(all, err)
		fmt.Fprintf(v.log, "%-28s %6s %10s %8s %9s\n", "kernel", "calls", "ms a step", "GB/s", "GFLOP/s")
		for _, k := range s.Kernels {
			fmt.Fprintf(v.log, "%-28s %6d %10.3f %8.0f %9.0f\n", k.Name, k.Calls, 1e3*k.Seconds, k.GBPerSecond, k.GFLOPS)
			// Kernels of cuBLAS are not named as ours are.
			if len(v.longest) < 10 && regexp.MustCompile(`^\w+$`).MatchString(k.Name) && precision == v.precisions[0] {
				v.longest = append(v.longest, k.Name)
			}
		}
	}
	return figures, all
}

// torch finds PyTorch with CUDA.
func (v *verifier) torch(ctx context.Context) error {
	if v.python != "" {
		return nil
	}
	python := os.Getenv("PIXPRO_PYTHON")
	if python == "" {
		python = "python3"
	}
	path, err := exec.LookPath(python)
	if err == nil {
		_, err = v.command(ctx, false, nil, path, "-c", "import sys, torch, torchvision; sys.exit(not torch.cuda.is_available())")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return leftOut(python + " has no torch with CUDA and torchvision (PIXPRO_PYTHON names another)")
	}
	v.python = path
	return nil
}

// besidePyTorch lets both take turns, so that a card that gets warm slows both
// down.
func (v *verifier) besidePyTorch(ctx context.Context) (any, error) {
	if v.width != "1" {
		return nil, leftOut("PyTorch's steps have the whole width")
	}
	if err := v.torch(ctx); err != nil {
		return nil, err
	}
	type pair struct {
		PixPro, PyTorch step
		Ratio           float64
	}
	figures := map[string][]pair{}
	for _, precision := range v.precisions {
		batch := v.fits[precision]
		if batch == 0 || precision == "fp32" {
			continue
		}
		for range 3 {
			ours, err := v.bench(ctx, precision, v.arch, v.size, batch)
			if err != nil {
				return figures, err
			}
			out, err := v.command(ctx, true, nil, v.python, filepath.Join(v.pack, "torch_step.py"), "--precision", precision, "--arch", v.arch,
				"--size", strconv.Itoa(v.size), "--batch", strconv.Itoa(batch), "--steps", strconv.Itoa(v.steps))
			if err != nil {
				return figures, err
			}
			var theirs step
			if err := json.Unmarshal(out, &theirs); err != nil {
				return figures, fmt.Errorf("torch_step.py: %w", err)
			}
			p := pair{ours, theirs, ours.PairsPerSecond / theirs.PairsPerSecond}
			p.PixPro.Kernels = nil
			figures[precision] = append(figures[precision], p)
			fmt.Fprintf(v.log, "%s: pixpro %.1f pairs/s with %d MiB, PyTorch %s %.1f pairs/s with %d MiB: %.2f times\n", precision,
				ours.PairsPerSecond, ours.DevicePeakBytes>>20, theirs.Torch, theirs.PairsPerSecond, theirs.PeakBytes>>20, p.Ratio)
		}
	}
	return figures, nil
}

// convolutions times every geometry, and PyTorch's of the same.
func (v *verifier) convolutions(ctx context.Context) (any, error) {
	precision := v.precisions[0]
	batch := v.fits[precision]
	if batch == 0 {
		return nil, leftOut("no step was made")
	}
	var ours any
	err := v.pixpro(ctx, &ours, append([]string{"bench", "convolutions"}, v.settings(precision, v.arch, v.size, batch, 2)...)...)
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"pixpro": ours}
	var lacks leftOut
	if err := v.torch(ctx); errors.As(err, &lacks) {
		fmt.Fprintln(v.log, err)
		return figures, nil
	} else if err != nil {
		return figures, err
	}
	list, err := json.Marshal(ours)
	if err != nil {
		return figures, err
	}
	out, err := v.command(ctx, true, bytes.NewReader(list), v.python, filepath.Join(v.pack, "torch_convolutions.py"))
	if err != nil {
		return figures, err
	}
	var both struct {
		Table string `json:"table"`
		Times any    `json:"times"`
	}
	if err := json.Unmarshal(out, &both); err != nil {
		return figures, fmt.Errorf("torch_convolutions.py: %w", err)
	}
	fmt.Fprintln(v.log, both.Table)
	figures["pytorch"] = both.Times
	return figures, nil
}

// withoutCuDNN lets convolutions be products of gathered windows.
const withoutCuDNN = "PIXPRO_CUDNN=off"

// sweep tries half and twice the batch, a step without cuDNN, and memory for gathered
// windows.
func (v *verifier) sweep(ctx context.Context) (any, error) {
	figures := map[string]any{}
	precision := v.precisions[0]
	if batch := v.fits[precision]; batch > 0 {
		for _, b := range []int{max(1, batch/2), 2 * batch} {
			s, err := v.bench(ctx, precision, v.arch, v.size, b)
			if err != nil && tooLarge.MatchString(err.Error()) {
				fmt.Fprintf(v.log, "%d pairs do not fit\n", b)
				continue
			}
			if err != nil {
				return figures, err
			}
			s.Kernels = nil
			figures[fmt.Sprintf("%d pairs", b)] = s
		}
	}
	if batch := v.fits[precision]; batch > 0 {
		s, err := v.with(withoutCuDNN).bench(ctx, precision, v.arch, v.size, batch)
		if err != nil {
			return figures, err
		}
		figures["without cuDNN"] = s
	}
	args := []string{"-test.run", "^$", "-test.bench", "Workspace", "-test.benchtime", "3x"}
	if v.short {
		args = append(args, "-test.short", "-test.benchtime", "1x")
	}
	out, err := v.command(ctx, false, nil, filepath.Join(v.pack, "tests", "cuda.test"), args...)
	figures["workspaces"] = strings.Split(strings.TrimSpace(string(out)), "\n")
	return figures, err
}

// counters asks NVIDIA's profiler about a step's longest kernels.
func (v *verifier) counters(ctx context.Context) (any, error) {
	ncu, err := find("ncu")
	if err != nil {
		return nil, err
	}
	precision := v.precisions[0]
	if len(v.longest) == 0 || v.fits[precision] == 0 {
		return nil, leftOut("no step was made")
	}
	args := []string{"--kernel-name", "regex:^(" + strings.Join(v.longest, "|") + ")$", "--launch-count", "40",
		"--section", "SpeedOfLight", "--section", "Occupancy", "--csv", "--page", "raw", v.program(), "bench", "step"}
	out, err := v.command(ctx, false, nil, ncu, append(args, v.settings(precision, v.arch, v.size, max(1, v.fits[precision]/4), 1)...)...)
	if bytes.Contains(out, []byte("ERR_NVGPUCTRPERM")) {
		return nil, leftOut("counters are for administrators on this machine (ERR_NVGPUCTRPERM)")
	}
	return map[string]any{"kernels": v.longest}, err
}

func (v *verifier) sums(ctx context.Context) (any, error) {
	long, err := v.test(ctx, "cuda.test", "^TestSums", "")
	if err != nil {
		return long, err
	}
	repeated, err := v.test(ctx, "train.test", "^TestRepeatedRunsOnCUDA$", "")
	return []any{long, repeated}, err
}

// training replays the golden runs, and trains from shards, with what the card
// waits for data.
func (v *verifier) training(ctx context.Context) (any, error) {
	runs := "CUDA"
	if v.short {
		runs = "^TestGoldenRunsOnCUDA$/^basic_pixpro$"
	}
	golden, err := v.test(ctx, "train.test", runs, "Repeated")
	if err != nil {
		return golden, err
	}
	images, shards, run := filepath.Join(v.scratch, "images"), filepath.Join(v.scratch, "shards"), filepath.Join(v.scratch, "run")
	size, count, batch := 96, 1600, 64
	if v.short {
		size, count, batch = 32, 40, 4
	}
	precision := v.precisions[0]
	for _, args := range [][]string{
		{"demo", "dataset", "--out", images, "--images", strconv.Itoa(count)},
		{"shard", "--in", images, "--out", shards},
		{"train", "--device", "cuda", "--precision", precision, "--shards", shards, "--output", run, "--arch", "resnet18", "--width", v.width,
			"--size", strconv.Itoa(size), "--batch", strconv.Itoa(batch), "--epochs", "2", "--warmup-epoch", "0", "--save-every", "end"},
	} {
		if _, err := v.command(ctx, false, nil, v.program(), args...); err != nil {
			return golden, err
		}
	}
	var loader map[string]any
	err = v.pixpro(ctx, &loader, "bench", "loader", "--shards", shards, "--size", strconv.Itoa(size), "--batch", strconv.Itoa(batch),
		"--pairs", strconv.Itoa(count), "--warm-up", strconv.Itoa(batch), "--device", "cuda", "--precision", precision)
	if err != nil {
		return golden, err
	}
	fmt.Fprintf(v.log, "from shards into the card's memory: %.0f pairs/s\n", loader["pairs_per_second"])
	text, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		return golden, err
	}
	var losses []float64
	var wait, whole float64
	for line := range bytes.Lines(text) {
		var m struct {
			Loss            float64 `json:"loss"`
			PairsPerSecond  float64 `json:"pairs_per_second"`
			DataWaitSeconds float64 `json:"data_wait_seconds"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return golden, err
		}
		if losses = append(losses, m.Loss); len(losses) > 1 { // in the first step the pipeline has just begun
			wait += m.DataWaitSeconds
			whole += float64(batch) / m.PairsPerSecond
		}
	}
	if len(losses) < 10 {
		return golden, fmt.Errorf("%d steps were made", len(losses))
	}
	first, last := mean(losses[:5]), mean(losses[len(losses)-5:])
	fmt.Fprintf(v.log, "%d steps, the loss went from %.3f to %.3f (means of five); %.1f%% of the time waited for data\n", len(losses), first, last, 100*wait/whole)
	if !(last < first) {
		err = fmt.Errorf("the loss went from %g to %g", first, last)
	}
	return map[string]any{"golden": golden, "losses": losses, "loader": loader, "data_wait_share": wait / whole}, err
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// sanitizer lets NVIDIA's checks look at our kernels, those that gather windows among
// them: for what the software device cannot find.
func (v *verifier) sanitizer(ctx context.Context) (any, error) {
	sanitizer, err := find("compute-sanitizer")
	if err != nil {
		return nil, err
	}
	figures, all := map[string]string{}, error(nil)
	for _, tool := range []string{"memcheck", "racecheck", "synccheck", "initcheck"} {
		_, err := v.with(withoutCuDNN).command(ctx, false, nil, sanitizer, "--tool", tool, "--error-exitcode", "1",
			filepath.Join(v.pack, "tests", "cuda.test"), "-test.short", "-test.run", "^Test(Device|LowerPrecisions|LargeUploadArrives)$")
		figures[tool] = passed
		if err != nil {
			figures[tool] = "failed"
			all = errors.Join(all, fmt.Errorf("%s: %w", tool, err))
		}
		if ctx.Err() != nil {
			figures[tool] = outOfTime
			break
		}
	}
	fmt.Fprintln(v.log, slices.Sorted(maps.Keys(figures)), figures)
	return figures, all
}

func (v *verifier) smallModel(ctx context.Context) (any, error) {
	size, batch := 96, 128
	if v.short {
		size, batch = 32, 2
	}
	s, err := v.bench(ctx, v.precisions[0], "resnet18", size, batch)
	return s, err
}

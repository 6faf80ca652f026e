package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
)

// asProgram, in the environment, makes the test's own program behave as pixpro;
// sayPeak makes it end by saying its peak memory.
const (
	asProgram = "PIXPRO_TEST_AS_PROGRAM"
	sayPeak   = "PIXPRO_TEST_SAY_PEAK"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	if at, err := strconv.ParseInt(os.Getenv(dieAt), 10, 64); err == nil {
		dieOnFiles(at)
	}
	code := run(context.Background(), os.Args[1:])
	if os.Getenv(sayPeak) != "" {
		if peak, err := peakRSS(); err == nil {
			fmt.Fprintf(os.Stderr, "peak memory %d\n", peak)
		}
	}
	os.Exit(code)
}

// runProcess runs a command line in a process of its own, which is killed
// after the given time unless that is 0, and says whether it was.
func runProcess(t *testing.T, limit time.Duration, args ...string) (killed bool) {
	t.Helper()
	ctx := t.Context()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, os.Args[0], append(args, "--log-level", "error")...) // killed by SIGKILL
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 && ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return true // the second, before it could start
	}
	if err != nil {
		t.Fatalf("pixpro %v: %v\n%s", args, err, stderr.String())
	}
	return false
}

// TestKilledTrainingEndsTheSame kills real training runs at random moments,
// while they save after every second step, until each has come to its end. Its
// final parameters, momentum and losses are those of an unbroken run.
func TestKilledTrainingEndsTheSame(t *testing.T) {
	kills := 30
	if testing.Short() {
		kills = 4
	}
	dir := t.TempDir()
	images, data := filepath.Join(dir, "images"), filepath.Join(dir, "shards")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 16, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "shard", "--in", images, "--out", data)
	training := func(output string) []string {
		return []string{
			"train", "--shards", data, "--output", output, "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
			"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "4", "--epochs", "3",
			"--save-every", "2steps", "--keep", "2", "--resume", "auto", "--threads", "1",
		}
	}
	whole := filepath.Join(dir, "whole")
	begin := time.Now()
	runProcess(t, 0, training(whole)...)
	length := time.Since(begin)
	wantFiles, wantMetrics := outcome(t, whole)

	seed := uint64(begin.UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, an unbroken run takes %v", seed, length)
	runs := 0
	for done := 0; done < kills; runs++ {
		output := filepath.Join(t.TempDir(), "run")
		for {
			limit := time.Duration(rng.Float64() * float64(length))
			if done == kills {
				limit = 0
			}
			if !runProcess(t, limit, training(output)...) {
				break
			}
			done++
		}
		files, metrics := outcome(t, output)
		if diff := cmp.Diff(wantFiles, files); diff != "" {
			t.Errorf("final checkpoint (-unbroken +killed):\n%s", diff)
		}
		if diff := cmp.Diff(wantMetrics, metrics); diff != "" {
			t.Errorf("losses (-unbroken +killed):\n%s", diff)
		}
	}
	t.Logf("%d kills over %d runs", kills, runs)
}

// outcome is what must not depend on how a run was interrupted: the digests of
// its tensors, and its losses.
func outcome(t *testing.T, output string) (map[string]checkpoint.Digest, []float64) {
	t.Helper()
	c, err := checkpoint.Open(output)
	if err != nil {
		t.Fatal(err)
	}
	delete(c.State.Files, "config.yaml") // names the output
	metrics, err := train.ReadMetrics(output)
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for _, m := range metrics {
		losses = append(losses, m.Loss)
	}
	return c.State.Files, losses
}

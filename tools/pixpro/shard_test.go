package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/shards"
)

// program is a process that runs a command line and ends by saying its peak
// memory.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", sayPeak+"=1")
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

func folderDigests(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return out
}

// TestShardKilled kills sharding (SIGKILL) at random moments, several times in
// a row, and lets the last run finish: the bytes are those of an unbroken run.
// PIXPRO_KILLS sets how many times.
func TestShardKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows ends a killed process with the exit code of a failed one, and the test must tell them apart")
	}
	kills := 6
	if n, err := strconv.Atoi(os.Getenv("PIXPRO_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 300, MinSide: 60, MaxSide: 90}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "bad.jpg"), []byte("no image"), 0o666); err != nil {
		t.Fatal(err)
	}
	shard := func(out string) *exec.Cmd {
		return program(t, "shard", "--in", images, "--out", out, "--shard-size", "30KB", "--check", "decode", "--order", "shuffle", "--seed", "7", "--resume")
	}
	whole := filepath.Join(dir, "whole")
	start := time.Now()
	if err := shard(whole).Run(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	want := folderDigests(t, whole)
	if len(want) < 10 {
		t.Fatalf("only %d files: too few to test with", len(want))
	}

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; an unbroken run takes %v", seed, took)
	rng := rand.New(rand.NewPCG(seed, 0))
	out, killed, rounds := filepath.Join(dir, "out"), 0, 0
	for killed < kills && rounds < 20*kills {
		rounds++
		cmd := shard(out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err != nil && cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("the run after %d kills failed: %v\n%s", killed, err, cmd.Stderr)
		}
		if err != nil {
			killed++
			for name, sum := range unfinished(t, out) {
				if want[name] != sum {
					t.Errorf("after %d kills %s is not what it should become", killed, name)
				}
			}
			continue
		}
		// It came through; begin again.
		if diff := cmp.Diff(want, folderDigests(t, out)); diff != "" {
			t.Fatalf("after %d kills (-unbroken +resumed):\n%s", killed, diff)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
	if killed < kills {
		t.Errorf("only %d of %d runs could be killed", killed, kills)
	}
	if err := shard(out).Run(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, folderDigests(t, out)); diff != "" {
		t.Errorf("after %d kills (-unbroken +resumed):\n%s", killed, diff)
	}
}

// unfinished are the files under final names of a folder that a killed run left.
func unfinished(t *testing.T, out string) map[string]string {
	t.Helper()
	if _, err := os.Stat(out); err != nil {
		return nil
	}
	got := folderDigests(t, out)
	for name := range got {
		if strings.HasSuffix(name, ".tmp") || name == "sharding.json" || name == lock.FolderName {
			delete(got, name)
		}
	}
	return got
}

func TestShardFlags(t *testing.T) {
	in := t.TempDir()
	for _, args := range [][]string{
		{"--in", in},
		{"--out", in},
		{"--in", in, "--out", in, "--format", "rar"},
		{"--in", in, "--out", in, "--order", "size"},
		{"--in", in, "--out", in, "--max-bad", "120%"},
		{"--in", in, "--out", in, "--check", "all"},
		{"--in", in, "--out", in, "--seed", "3"},
	} {
		if code, _ := pixpro(t, append([]string{"shard"}, args...)...); code != exitUsage {
			t.Errorf("pixpro shard %s ended with %d, want %d", strings.Join(args, " "), code, exitUsage)
		}
	}
	for text, want := range map[string]share{"0": 0, "0.02": 0.02, "2%": 0.02, "100%": 1} {
		var s share
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%s is %v (%v), want %v", text, s, err, want)
		}
	}
}

// TestShardMemory shards and verifies a tar of many tiny images, of one image
// repeated: whatever is kept for each shows.
func TestShardMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: writes 150 MB, under the race detector in minutes; make test runs this")
	}
	const images, most = 100_000, 96 << 20 // a shard of them has 70 MB
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.tar"), filepath.Join(dir, "out")
	var one bytes.Buffer
	if err := jpeg.Encode(&one, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewWriter(f)
	w := tar.NewWriter(buffered)
	for i := range images {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("n%03d/n%03d_%d.JPEG", i%100, i%100, i), Mode: 0o644, Size: int64(one.Len())}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(one.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), buffered.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"shard", "--in", in, "--out", out}, {"verify", "--shards", out}, {"verify", "--shards", out, "--deep"}} {
		cmd := program(t, args...)
		err := cmd.Run()
		text := fmt.Sprint(cmd.Stderr)
		var peak int64
		_, number, _ := strings.Cut(text, "peak memory ")
		if _, scanErr := fmt.Sscan(number, &peak); err != nil || scanErr != nil {
			t.Fatalf("pixpro %v: %v, %v\n%s", args, err, scanErr, text)
		}
		t.Logf("pixpro %v took %d MB", args, peak>>20)
		if peak > most {
			t.Errorf("pixpro %v took %d MB, more than %d", args, peak>>20, most>>20)
		}
	}
}

func TestInterruptedShardSaysWhatToDo(t *testing.T) {
	for want, got := range map[string]error{
		"interrupted while the input was listed, before a shard was finished: nothing is kept, run the same command again":               interruptedShard("out", shards.WriteProgress{}, false),
		"interrupted after 1 of 1 file, before a shard was finished: nothing is kept, run the same command again":                        interruptedShard("out", shards.WriteProgress{Files: 1, TotalFiles: 1}, false),
		"interrupted after 5 of 9 files: finished shards are kept in out, and the same command with --resume goes on from there":         interruptedShard("out", shards.WriteProgress{Files: 5, TotalFiles: 9}, true),
		"interrupted while the input was listed: finished shards are kept in out, and the same command with --resume goes on from there": interruptedShard("out", shards.WriteProgress{}, true),
	} {
		if got.Error() != want {
			t.Errorf("says %q, want %q", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(ctx, []string{"shard", "--in", t.TempDir(), "--out", t.TempDir()}); code != exitFailed {
		t.Errorf("an interrupted run ends with %d", code)
	}
}

func TestInspectAndVerifyDeep(t *testing.T) {
	dir := t.TempDir()
	images, out, one := filepath.Join(dir, "images"), filepath.Join(dir, "shards"), filepath.Join(dir, "one")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 12, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "shard", "--in", images, "--out", out)
	mustRun(t, "verify", "--shards", out, "--deep")

	var summary struct {
		Rows    int            `json:"rows"`
		Formats map[string]int `json:"formats"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, "inspect", "--shards", out, "--json")), &summary); err != nil || summary.Rows != 12 || len(summary.Formats) == 0 {
		t.Errorf("inspect reports %+v (%v)", summary, err)
	}
	if text := mustRun(t, "inspect", "--shards", out); !strings.Contains(text, "large_binary") {
		t.Errorf("inspect prints no schema: %s", text)
	}
	var row rowReport
	if err := json.Unmarshal([]byte(mustRun(t, "inspect", "--shards", out, "--row", "7", "--out", one, "--json")), &row); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(images, filepath.FromSlash(row.Key)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("row 7, %s, is another file", row.Key)
	}

	// A changed byte in the image makes verify fail, by exit code.
	path := filepath.Join(out, "shard-00000.arrow")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, want)+len(want)/2] ^= 1
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if code, text := pixpro(t, "verify", "--shards", out); code != exitFailed || !strings.Contains(text, row.Key) {
		t.Errorf("verify ended with %d: %s", code, text)
	}
	for _, args := range [][]string{{"--row", "12"}, {"--row", "-1"}} {
		if code, _ := pixpro(t, append([]string{"inspect", "--shards", out}, args...)...); code != exitFailed {
			t.Errorf("inspect %v ended with %d", args, code)
		}
	}
	if code, _ := pixpro(t, "inspect", "--shards", out, "--out", one); code != exitUsage {
		t.Errorf("inspect --out without --row ended with %d", code)
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/lock"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// process starts a command line in a process of its own.
func process(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "--log-level", "error")...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	return cmd, &said
}

// race runs command lines at the same time and returns how each ended and what
// it said.
func race(t *testing.T, lines ...[]string) (codes []int, said []string) {
	t.Helper()
	codes, said = make([]int, len(lines)), make([]string, len(lines))
	var wg sync.WaitGroup
	for i, line := range lines {
		cmd, text := process(t, line...)
		wg.Go(func() {
			if err := cmd.Run(); cmd.ProcessState == nil {
				t.Error(err)
				return
			}
			codes[i], said[i] = cmd.ProcessState.ExitCode(), text.String()
		})
	}
	wg.Wait()
	return codes, said
}

// refusal is what a second writer says. A holder that got no time to write who it
// is, on a machine that does much else, is "another process"; package lock tests
// that it is named otherwise.
var refusal = regexp.MustCompile(`^pixpro: [^\n]* is being written by (process \d+ on [^\n]* since|another process)[^\n]*\n$`)

// wantWinner checks that one of two ended well and the other was refused, or, if
// it came too late for that, what late says of it. It returns how many were
// refused.
func wantWinner(t *testing.T, codes []int, said []string, late string) (refused int) {
	t.Helper()
	for i, code := range codes {
		switch {
		case code == exitFailed && refusal.MatchString(said[i]):
			refused++
		case code != exitFine && (late == "" || !strings.Contains(said[i], late)):
			t.Errorf("process %d ended with %d: %s", i, code, said[i])
		}
	}
	if codes[0] != exitFine && codes[1] != exitFine {
		t.Errorf("neither ended well: %q", said)
	}
	return refused
}

// TestOneWriter starts two writers of one output at the same moment, ten times
// for each command. What is written is what one alone writes.
func TestOneWriter(t *testing.T) {
	times := 10
	if testing.Short() {
		times = 2
	}
	dir := t.TempDir()
	images, data, whole := filepath.Join(dir, "images"), filepath.Join(dir, "shards"), filepath.Join(dir, "whole")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 40, MinSide: 60, MaxSide: 90}); err != nil {
		t.Fatal(err)
	}
	sharding := func(out string) []string {
		return []string{"shard", "--in", images, "--out", out, "--shard-size", "20KiB", "--check", "decode"}
	}
	mustRun(t, sharding(data)...)
	training := func(output string) []string {
		return []string{
			"train", "--shards", data, "--output", output, "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
			"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "8", "--epochs", "2",
			"--save-every", "2steps", "--keep", "1", "--resume", "auto", "--threads", "1",
		}
	}
	mustRun(t, training(whole)...)
	wantFiles, wantLosses := outcome(t, whole)
	backbone := filepath.Join(dir, "backbone.safetensors")
	mustRun(t, "export", "--checkpoint", whole, "--out", backbone)

	refused := 0
	t.Run("shard", func(t *testing.T) {
		for range times {
			out := filepath.Join(t.TempDir(), "out")
			codes, said := race(t, sharding(out), sharding(out))
			refused += wantWinner(t, codes, said, "the folder is not empty")
			if diff := cmp.Diff(contents(t, data), contents(t, out)); diff != "" {
				t.Errorf("-alone +beside another:\n%s", diff)
			}
		}
	})
	t.Run("train", func(t *testing.T) {
		for range times {
			output := filepath.Join(t.TempDir(), "run")
			codes, said := race(t, training(output), training(output))
			refused += wantWinner(t, codes, said, "")
			files, losses := outcome(t, output)
			if diff := cmp.Diff(wantFiles, files) + cmp.Diff(wantLosses, losses); diff != "" {
				t.Errorf("-alone +beside another:\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(output, lock.FolderName)); err == nil {
				t.Error("the lock's file is still there")
			}
		}
	})
	t.Run("export while training", func(t *testing.T) {
		for i := range times {
			// One more epoch of a copy, exported meanwhile to one file by two.
			output, out := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "backbone.safetensors")
			if err := os.CopyFS(output, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			export := []string{"export", "--checkpoint", output, "--out", out}
			codes, said := race(t, append(training(output), "--epochs", "3"), export, export)
			if codes[0] != exitFine {
				t.Errorf("training ended with %d: %s", codes[0], said[0])
			}
			refused += wantWinner(t, codes[1:], said[1:], "")
			if f, err := safetensors.Read(out); err != nil || len(f.Names()) != 100 {
				t.Errorf("export %d cannot be read: %v", i, err)
			}
		}
	})
	if t.Logf("%d refused", refused); refused == 0 {
		t.Error("no writer came while another one wrote")
	}
	t.Run("waiting", func(t *testing.T) {
		output := filepath.Join(t.TempDir(), "run")
		line := append(training(output), "--wait", "5m")
		codes, said := race(t, line, line, line)
		if diff := cmp.Diff([]int{0, 0, 0}, codes); diff != "" {
			t.Errorf("runs that wait ended with %v: %q", codes, said)
		}
		if files, _ := outcome(t, output); !cmp.Equal(wantFiles, files) {
			t.Error("runs one after the other end with other parameters than one")
		}
	})
}

// contents are the files of a folder by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = fmt.Sprintf("%d bytes, SHA-256 %x", len(data), sha256.Sum256(data))
	}
	return files
}

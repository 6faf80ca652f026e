//go:build unix && !cuda

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runBeside runs a command line of this binary in a process whose PATH has a
// pixpro-cuda that is the given shell script, or none.
func runBeside(t *testing.T, script string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, cudaProgram), []byte("#!/bin/sh\n"+script), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "PIXPRO_SELF="+os.Args[0], "PATH="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

const (
	// cardScript is a pixpro-cuda with one card, which says what it is to do.
	cardScript = `if [ "$1" = devices ]; then
  echo '{"driver": "12.4", "toolkit": "12.2", "libraries": [{"name": "NVRTC", "version": "12.2", "path": "/lib/libnvrtc.so.12"}], "missing": "no cuBLAS", "cards": [{"device": "cuda:0", "name": "a card", "memory_bytes": 85899345920, "compute_capability": "9.0", "multiprocessors": 132, "bf16": true}]}'
else
  echo "took over: $*"
fi
`
	cardlessScript = "echo 'pixpro-cuda: the driver finds no card (CUDA_ERROR_NO_DEVICE)' >&2; exit 1\n"
	loaderScript   = "echo 'pixpro-cuda: libcuda.so.1: cannot open shared object file' >&2; exit 1\n"
	selfScript     = `exec "$PIXPRO_SELF" "$@"` + "\n"
)

func TestHandOver(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds on a second program, which takes long to start under the race detector; make test runs it")
	}
	step := []string{"bench", "step", "--arch", "resnet18", "--width", "0.25", "--size", "32", "--batch", "2", "--steps", "1", "--device"}
	for _, test := range []struct {
		name, script, device string
		want                 string // in standard output, or with fails in the error
		fails                bool
	}{
		{"a card", cardScript, "cuda:0", "took over: " + strings.Join(step, " ") + " cuda:0\n", false},
		{"a card, if there is one", cardScript, "auto", "took over: " + strings.Join(step, " ") + " auto\n", false},
		{"no program", "", "cuda", "build pixpro-cuda by make cuda", true},
		{"no program, automatically", "", "auto", "pairs/s", false},
		{"no card", cardlessScript, "cuda", "CUDA_ERROR_NO_DEVICE", true},
		{"no card, automatically", cardlessScript, "auto", "pairs/s", false},
		{"no driver", loaderScript, "cuda", "libcuda.so.1", true},
		{"a program without CUDA", selfScript, "cuda", "built without CUDA", true},
		{"the processor", cardScript, "cpu", "pairs/s", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := runBeside(t, test.script, append(step[:len(step):len(step)], test.device)...)
			if (err != nil) != test.fails {
				t.Fatalf("%v\n%s%s", err, stdout, stderr)
			}
			said := stdout
			if test.fails {
				said = stderr
			}
			if !strings.Contains(said, test.want) {
				t.Errorf("%q is not in %q, %q", test.want, stdout, stderr)
			}
		})
	}
}

// TestAutoWithoutCard has a pixpro-cuda that finds no card, which is warned of,
// and a precision that only a card has.
func TestAutoWithoutCard(t *testing.T) {
	step := []string{"bench", "step", "--arch", "resnet18", "--width", "0.25", "--size", "32", "--batch", "2", "--steps", "1", "--device", "auto"}
	_, stderr, err := runBeside(t, loaderScript, step...)
	if err != nil || !strings.Contains(stderr, "libcuda.so.1") || !strings.Contains(stderr, "computing on the processor") {
		t.Errorf("%v; it said %q", err, stderr)
	}
	_, stderr, err = runBeside(t, "", append(step, "--precision", "tf32")...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(stderr, "there is no card") {
		t.Errorf("tf32 without a card: %v; it said %q", err, stderr)
	}
}

// TestHandOverKeepsTheExitCode runs a pixpro-cuda that fails in a way of its own.
func TestHandOverKeepsTheExitCode(t *testing.T) {
	script := strings.Replace(cardScript, `echo "took over: $*"`, "exit 7", 1)
	_, stderr, err := runBeside(t, script, "bench", "step", "--device", "cuda")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("it ended with %v, want exit code 7: %s", err, stderr)
	}
}

func TestDevices(t *testing.T) {
	stdout, stderr, err := runBeside(t, cardScript, "devices")
	if err != nil {
		t.Fatal(err, stderr)
	}
	for _, want := range []string{"cpu  ", "cuda:0  a card, 80.0 GiB, compute capability 9.0, 132 multiprocessors", "driver for up to 12.4", "NVRTC 12.2, /lib/libnvrtc.so.12", "missing no cuBLAS"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	for _, script := range []string{"", cardlessScript, loaderScript, selfScript} {
		stdout, stderr, err := runBeside(t, script, "devices", "--json")
		if err != nil {
			t.Fatal(err, stderr)
		}
		var d devicesInfo
		if err := json.Unmarshal([]byte(stdout), &d); err != nil {
			t.Fatal(err)
		}
		if d.Processor.Threads < 1 || d.Processor.Name == "" || len(d.Cards) != 0 || d.NoCards == "" {
			t.Errorf("with %q: %+v", script, d)
		}
	}
}

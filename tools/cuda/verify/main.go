//go:build linux

// Command verify says whether everything that the software device showed holds on
// a card, and how fast it is. make gpu-pack packs it with what it runs, into a
// folder that needs no Go, compiler, network or root:
//
//	./verify.sh --minutes 10 --out report
//
// Stages follow one another, the cheapest and most telling first. Each has a part
// of the time, and what earlier ones leave goes to later ones; one that takes longer
// is stopped, and named. report.txt in the folder has all that was said,
// report.json the outcome and figures of each stage.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

func main() {
	var v verifier
	minutes := flag.Float64("minutes", 10, "how long to take")
	out := flag.String("out", "report", "folder for report.txt and report.json")
	flag.StringVar(&v.pack, "pack", ".", "folder of the program, the tests and the golden cases")
	flag.StringVar(&v.arch, "arch", "resnet50", "architecture of the steps that are timed")
	flag.StringVar(&v.width, "width", "1", "factor of its channels; PyTorch's steps have 1")
	flag.IntVar(&v.size, "size", 224, "side of their views in pixels")
	flag.IntVar(&v.batch, "batch", 128, "pairs of a step, halved until they fit")
	flag.IntVar(&v.steps, "steps", 10, "steps of a round")
	flag.BoolVar(&v.short, "short", false, "smaller tests, for the software device")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), `verify.sh runs what is to be known of a card, in so many minutes.

  ./verify.sh --minutes 10 --out report
  ./verify.sh --minutes 4 --arch resnet18 --size 96 --batch 64

CUDA's libraries are found as by pixpro-cuda (PIXPRO_CUDA_LIB names folders);
PIXPRO_PYTHON names the Python with PyTorch, python3 unless told.`)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := v.run(ctx, time.Duration(*minutes*float64(time.Minute)), *out, v.stages())
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// verifier runs stages on a card.
type verifier struct {
	pack        string
	arch, width string
	size, batch int
	steps       int
	short       bool
	log         io.Writer
	environment []string // of commands, beside this process's
	scratch     string
	precisions  []string       // that the card has, the fastest first
	longest     []string       // kernels
	python      string         // with PyTorch, or ""
	fits        map[string]int // the batch of each precision
}

// stage is one thing to find out.
type stage struct {
	name    string
	seconds int // of ten minutes
	run     func(ctx context.Context) (figures any, err error)
}

// leftOut is why a stage cannot be run.
type leftOut string

func (l leftOut) Error() string { return string(l) }

// Outcomes of a stage.
const (
	passed     = "ok"
	failing    = "FAILED"
	notRun     = "left out"
	outOfTime  = "out of time"
	stopsAll   = "a card" // without which there is nothing to verify
	leastOfAll = 2 * time.Second
)

// outcome is a stage's part of report.json.
type outcome struct {
	Stage   string  `json:"stage"`
	Status  string  `json:"status"`
	Why     string  `json:"why,omitempty"`
	Seconds float64 `json:"seconds"`
	Limit   float64 `json:"limit_seconds"`
	Figures any     `json:"figures,omitempty"`
}

// run runs the stages within the time, writes both reports, and returns how many
// stages failed.
func (v *verifier) run(ctx context.Context, length time.Duration, out string, stages []stage) (failed int, err error) {
	if err := os.MkdirAll(out, 0o777); err != nil {
		return 0, err
	}
	file, err := os.Create(filepath.Join(out, "report.txt"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	v.log = io.MultiWriter(os.Stdout, &bounded{w: file, left: 15 << 20})
	if v.scratch, err = os.MkdirTemp("", "pixpro-verify-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(v.scratch)) }()

	deadline := time.Now().Add(length)
	whole := 0
	for _, s := range stages {
		whole += s.seconds
	}
	var outcomes []outcome
	for _, s := range stages {
		left := time.Until(deadline)
		limit := left * time.Duration(s.seconds) / time.Duration(whole)
		whole -= s.seconds
		o := v.stage(ctx, s, limit)
		outcomes = append(outcomes, o)
		if o.Status == failing {
			failed++
		}
		if err := v.write(out, length, outcomes); err != nil {
			return failed, err
		}
		if ctx.Err() != nil {
			return failed, errors.New("stopped")
		}
		if o.Status != passed && s.name == stopsAll {
			fmt.Fprintf(v.log, "\nWithout a card that computes there is nothing to verify: see docs/cuda.md.\n")
			break
		}
	}
	fmt.Fprintf(v.log, "\n== summary\n")
	for _, o := range outcomes {
		fmt.Fprintf(v.log, "%-12s %6.1f of %6.1f s  %s", o.Status, o.Seconds, o.Limit, o.Stage)
		if o.Why != "" {
			fmt.Fprintf(v.log, ": %s", strings.TrimSpace(firstLine(o.Why)))
		}
		fmt.Fprintln(v.log)
	}
	return failed, nil
}

// stage runs one stage within its limit.
func (v *verifier) stage(ctx context.Context, s stage, limit time.Duration) outcome {
	o := outcome{Stage: s.name, Status: passed, Limit: limit.Seconds()}
	fmt.Fprintf(v.log, "\n== %s (%.0f s at most)\n", s.name, limit.Seconds())
	if limit < leastOfAll {
		o.Status, o.Why = outOfTime, "no time was left"
		return o
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	var err error
	o.Figures, err = s.run(ctx)
	o.Seconds = time.Since(start).Seconds()
	if _, err := json.Marshal(o.Figures); err != nil { // JSON has no infinity
		o.Figures = fmt.Sprintf("%+v", o.Figures)
	}
	var out leftOut
	switch {
	case errors.As(err, &out):
		o.Status, o.Why = notRun, out.Error()
	case ctx.Err() != nil:
		o.Status, o.Why = outOfTime, fmt.Sprintf("did not end within %.0f s", limit.Seconds())
	case err != nil:
		o.Status, o.Why = failing, err.Error()
	}
	if o.Why != "" {
		fmt.Fprintf(v.log, "%s: %s\n", o.Status, o.Why)
	}
	return o
}

// write writes report.json.
func (v *verifier) write(out string, length time.Duration, outcomes []outcome) error {
	data, err := json.MarshalIndent(map[string]any{
		"minutes": length.Minutes(), "arch": v.arch, "width": v.width, "size": v.size, "batch": v.batch, "steps": v.steps, "stages": outcomes,
	}, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteTo(filepath.Join(out, "report.json"), func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// bounded drops what is written behind its limit.
type bounded struct {
	w    io.Writer
	left int
	mu   sync.Mutex // both outputs of a command are written at once
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// with is a verifier whose commands have a variable beside the others.
func (v *verifier) with(variable string) *verifier {
	w := *v
	w.environment = append(slices.Clip(v.environment), variable)
	return &w
}

// command runs a program to its end, or with all that it started until ctx is
// done. What it says goes into the report, but for its standard output, which is
// returned, where quiet.
func (v *verifier) command(ctx context.Context, quiet bool, stdin io.Reader, name string, args ...string) ([]byte, error) {
	fmt.Fprintf(v.log, "$ %s\n", strings.Join(slices.Concat(v.environment, []string{filepath.Base(name)}, args), " "))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "PIXPRO_GOLDEN="+filepath.Join(v.pack, "golden")), v.environment...)
	cmd.Stdin = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var said strings.Builder
	last := &tail{}
	cmd.Stderr = io.MultiWriter(v.log, last)
	cmd.Stdout = io.MultiWriter(v.log, &said, last)
	if quiet {
		cmd.Stdout = &said
	}
	err := cmd.Run()
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(name), err, last)
	}
	return []byte(said.String()), err
}

// tail keeps the end of what is written.
type tail struct {
	text []byte
	mu   sync.Mutex
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2000):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.text)) }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

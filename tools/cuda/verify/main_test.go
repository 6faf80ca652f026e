//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRun has stages that pass, fail, cannot be run, and take too long, with a
// process that outlives its parent.
func TestRun(t *testing.T) {
	v := &verifier{pack: t.TempDir()}
	alive := filepath.Join(t.TempDir(), "alive")
	out := filepath.Join(t.TempDir(), "report")
	stages := []stage{
		{"a card", 1, func(ctx context.Context) (any, error) {
			said, err := v.command(ctx, false, strings.NewReader("seen"), "sh", "-c", "cat; echo; echo $PIXPRO_GOLDEN; echo aside >&2")
			if said, err := v.with("VERIFIED=with").command(ctx, true, nil, "sh", "-c", "echo $VERIFIED; exit 1"); err == nil || string(said) != "with\n" {
				t.Errorf("with a variable: %q, %v", said, err)
			}
			return string(said), err
		}},
		{"fails", 1, func(ctx context.Context) (any, error) {
			_, err := v.command(ctx, true, nil, "sh", "-c", "echo hidden; echo the reason >&2; exit 3")
			return nil, err
		}},
		{"lacks", 1, func(context.Context) (any, error) { return nil, leftOut("no tool") }},
		{"hangs", 1, func(ctx context.Context) (any, error) {
			_, err := v.command(ctx, false, nil, "sh", "-c", "(sleep 4; touch "+alive+") & sleep 100")
			return map[string]int{"before": 1}, err
		}},
		{"goes on", 100, func(context.Context) (any, error) { return math.Inf(1), nil }},
	}
	failed, err := v.run(t.Context(), 250*time.Second, out, stages)
	if err != nil || failed != 1 {
		t.Errorf("%d stages failed (%v), want 1", failed, err)
	}
	data, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Stages []outcome }
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ status, why string }{
		{passed, ""}, {failing, "sh: exit status 3: the reason"}, {notRun, "no tool"}, {outOfTime, "did not end within 2 s"}, {passed, ""},
	} {
		if o := report.Stages[i]; o.Status != want.status || o.Why != want.why || o.Stage != stages[i].name {
			t.Errorf("stage %d is %+v, want %+v", i, o, want)
		}
	}
	if got := report.Stages[0].Figures; got != "seen\n"+filepath.Join(v.pack, "golden")+"\n" {
		t.Errorf("the first stage gives %q", got)
	}
	if got := report.Stages[4].Figures; got != "+Inf" {
		t.Errorf("the last stage gives %v, which JSON does not have", got)
	}
	text, err := os.ReadFile(filepath.Join(out, "report.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"seen", "aside", "the reason", "== summary", "FAILED", "out of time", "left out"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("report.txt lacks %q", want)
		}
	}
	if strings.Contains(string(text), "\nhidden") {
		t.Error("report.txt has what is quiet")
	}
	time.Sleep(3 * time.Second)
	if _, err := os.Stat(alive); err == nil {
		t.Error("what a stage started outlived it")
	}
}

// TestNothingWithoutACard ends behind the first stage.
func TestNothingWithoutACard(t *testing.T) {
	v := &verifier{}
	failed, err := v.run(t.Context(), time.Minute, t.TempDir(), []stage{
		{stopsAll, 1, func(context.Context) (any, error) { return nil, errors.New("no driver") }},
		{"never", 1, func(context.Context) (any, error) { t.Error("ran"); return nil, nil }},
	})
	if err != nil || failed != 1 {
		t.Errorf("%d failed (%v)", failed, err)
	}
}

// TestNoTimeLeft names what was not begun.
func TestNoTimeLeft(t *testing.T) {
	v := &verifier{}
	out := t.TempDir()
	failed, err := v.run(t.Context(), time.Millisecond, out, []stage{
		{"never", 1, func(context.Context) (any, error) { t.Error("ran"); return nil, nil }},
	})
	data, _ := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil || failed != 0 || !strings.Contains(string(data), outOfTime) {
		t.Errorf("%d failed (%v): %s", failed, err, data)
	}
}

func TestBounded(t *testing.T) {
	var b strings.Builder
	w := &bounded{w: &b, left: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := w.Write([]byte(s)); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if b.String() != "abcde" {
		t.Errorf("%q", b.String())
	}
}

// TestBothOutputsAtOnce is for the race detector, and for an end that both share.
func TestBothOutputsAtOnce(t *testing.T) {
	var report strings.Builder
	v := &verifier{log: &bounded{w: &report, left: 1 << 20}}
	_, err := v.command(t.Context(), false, nil, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo out; echo err >&2; done; exit 1")
	if err == nil {
		t.Fatal("the command did not fail")
	}
	for _, text := range []string{err.Error() + "\n", report.String()} {
		if strings.Count(text, "out\n") != 9 || strings.Count(text, "err\n") != 9 {
			t.Errorf("lines are lost: %s", text)
		}
	}
}

// TestTorchOutOfTime tells a Python that was stopped from one without PyTorch.
func TestTorchOutOfTime(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python3")
	for _, c := range []struct {
		script string
		lacks  bool
	}{{"exit 1", true}, {"sleep 100", false}} {
		if err := os.WriteFile(python, []byte("#!/bin/sh\n"+c.script+"\n"), 0o777); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PIXPRO_PYTHON", python)
		ctx, cancel := context.WithCancel(t.Context())
		v := &verifier{log: writer(func(p []byte) {
			if !c.lacks { // the command was named, and is to be started
				cancel()
			}
		})}
		var lacks leftOut
		if err := v.torch(ctx); errors.As(err, &lacks) != c.lacks || errors.Is(err, context.Canceled) == c.lacks {
			t.Errorf("%s: %v", c.script, err)
		}
		cancel()
	}
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

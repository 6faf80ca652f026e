//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
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
		{"goes on", 100, func(context.Context) (any, error) { return nil, nil }},
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
	w := &bounded{&b, 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := w.Write([]byte(s)); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if b.String() != "abcde" {
		t.Errorf("%q", b.String())
	}
}

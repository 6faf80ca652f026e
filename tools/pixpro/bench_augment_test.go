package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/synth"
)

func TestBenchAugment(t *testing.T) {
	images := filepath.Join(t.TempDir(), "images")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 3, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PIXPRO_CPU", cpu.Current().String()) // this process alone: its executable is the test
	var results []augmentBench
	if err := json.Unmarshal([]byte(mustRun(t, "bench", "augment", "--images", images, "--size", "32", "--json")), &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 {
		t.Fatalf("%d results, want one", len(results))
	}
	b := results[0]
	if b.Level != cpu.Current().String() || b.Images != 3 || b.Size != 32 || b.Recipe != "byol" || b.JPEG == "" {
		t.Errorf("measured with %+v", b)
	}
	for _, op := range augment.Operations() {
		if !slices.ContainsFunc(b.Operations, func(o operationBench) bool { return o.Name == op.String() }) {
			t.Errorf("%v is not measured: %+v", op, b.Operations)
		}
	}
	if !(b.DecodeSeconds > 0 && b.PairSeconds > 0 && b.PairsPerSecond > 0) {
		t.Errorf("figures are missing: %+v", b)
	}
	for _, op := range b.Operations {
		if !(op.NanosecondsPerPixel > 0) {
			t.Errorf("%s takes %v ns a pixel", op.Name, op.NanosecondsPerPixel)
		}
	}
	for _, args := range [][]string{
		{"bench", "augment", "--recipe", "bylo"},
		{"bench", "augment", "--size", "0"},
	} {
		if code, _ := pixpro(t, args...); code != exitUsage {
			t.Errorf("%v ended with %d, want %d", args, code, exitUsage)
		}
	}
	if code, _ := pixpro(t, "bench", "augment", "--images", t.TempDir()); code != exitFailed {
		t.Errorf("an empty folder ended with %d, want %d", code, exitFailed)
	}
}

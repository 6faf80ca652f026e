package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train"
)

// TestCountsWhatThePlanCounts holds the parts' operations to those that
// train --dry-run tells.
func TestCountsWhatThePlanCounts(t *testing.T) {
	cfg := configuration()
	cfg.Arch, cfg.Size, cfg.BatchSize = "resnet18", 64, 4
	plan, err := train.MakePlan(cfg, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{4, 2} {
		c, err := count(cfg, size)
		if err != nil {
			t.Fatal(err)
		}
		var all work
		for part, w := range c.done {
			if !slices.Contains(parts, part) {
				t.Errorf("the part %q is not in the table", part)
			}
			all.add(w)
		}
		if math.Abs(all.flops-float64(plan.StepFlops)) > 1 {
			t.Errorf("%g operations, and the plan has %d", all.flops, plan.StepFlops)
		}
	}
}

func TestDocumentHasTheTable(t *testing.T) {
	cfg := configuration()
	cfg.Arch, cfg.Size, cfg.BatchSize = "resnet50", 224, 128
	want, err := table(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want) {
		t.Errorf("docs/performance.md does not have this table, which go run ./tools/cuda/budget prints:\n%s", want)
	}
}

//go:build unix

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBenchLoader(t *testing.T) {
	shards := smallShards(t, 8)
	args := []string{"bench", "loader", "--shards", shards, "--size", "16", "--batch", "4", "--pairs", "10", "--warm-up", "4", "--workers", "2"}
	var b loaderBench
	if err := json.Unmarshal([]byte(mustRun(t, append(args, "--json")...)), &b); err != nil {
		t.Fatal(err)
	}
	if b.PairsPerSecond <= 0 || b.PeakRSSBytes < 1<<20 || b.Pairs != 12 || b.Workers != 2 || len(b.Stages) != 4 || b.Bottleneck == "" || b.Scale != nil {
		t.Errorf("%+v", b)
	}
	if err := json.Unmarshal([]byte(mustRun(t, append(args, "--device", "cpu", "--json")...)), &b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.Device, "cpu") || len(b.Stages) != 5 || b.Stages[4].Name != "upload" || b.Stages[4].MillisecondsAPair <= 0 {
		t.Errorf("into a device: %+v", b)
	}
	if code, text := execute(t.Context(), append(args, "--device", "cpu", "--dtype", "float32")); code != exitUsage || !strings.Contains(text, "--dtype float32") {
		t.Errorf("float32 views into a device end with %d: %s", code, text)
	}
	text := mustRun(t, append(args, "--scaling")...)
	for _, part := range []string{"pairs/s", "decode", "consumer waits for workers", "queue to read", "bottleneck: ", "spin loop"} {
		if !strings.Contains(text, part) {
			t.Errorf("the table has no %q:\n%s", part, text)
		}
	}
}

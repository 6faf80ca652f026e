package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	in := tree(t, map[string][]byte{
		"cat/1.png": picture(t, "png", 1, 1, 1),
		"cat/2.jpg": picture(t, "jpeg", 40, 64, 2),
		"dog/3.jpg": picture(t, "jpeg", 63, 1, 3),
		"none.png":  picture(t, "png", 40, 40, 4),
	})
	out, _ := shardInto(t, WriteConfig{In: in, ShardSize: 1, Order: OrderShuffle, Seed: 5})
	s, err := open(t, out).Summarize(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	files := int64(0)
	for _, b := range s.Files {
		files += b.Rows
	}
	if s.Rows != 4 || s.Shards != 4 || s.Unlabelled != 1 || s.Order != OrderShuffle || s.Seed != 5 || files != 4 || len(s.Schema) != numColumns {
		t.Errorf("summary is %+v", s)
	}
	if diff := cmp.Diff([]ClassCount{{0, "cat", 2}, {1, "dog", 1}}, s.Classes); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"jpeg": 2, "png": 2}, s.Formats); diff != "" {
		t.Errorf("formats (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Bin{{1, 2, 1}, {2, 4, 0}, {4, 8, 0}, {8, 16, 0}, {16, 32, 0}, {32, 64, 2}, {64, 128, 1}}, s.Sides); diff != "" {
		t.Errorf("sides (-want +got):\n%s", diff)
	}
}

func TestSummarizeDamaged(t *testing.T) {
	out := write(t, classTree(t, 9), 0)
	path := filepath.Join(out, shardName(0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data[200:] { // more than one column of a batch
		data[200+i] ^= 0xff
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := open(t, out).Summarize(context.Background()); !errors.As(err, &corrupt) {
		t.Errorf("error is %v", err)
	}
}

// TestScanVisitsHeads in the order of the rows, also of images that are damaged.
func TestScanVisitsHeads(t *testing.T) {
	out, _ := shardInto(t, WriteConfig{In: classTree(t, 9), ShardSize: 1, Order: OrderShuffle, Seed: 3, MaxBad: 0.5})
	d := open(t, out)
	var want, got []string
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(s.Key, s.Label, s.Width, s.Height))
	}
	s, err := d.Sample(4)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(out, "*.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, s.Image); at >= 0 {
			data[at+len(s.Image)/2] ^= 1
			damaged++
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, out)
	if _, err := d.Sample(4); err == nil || damaged != 1 {
		t.Fatalf("%d images were damaged, want one: %v", damaged, err)
	}
	err = d.Scan(t.Context(), func(s Sample) { got = append(got, fmt.Sprint(s.Key, s.Label, s.Width, s.Height)) })
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Scan(ctx, func(Sample) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestForgetWorksAfterScan scans a dataset, which maps its shards, and finds
// that Forget knows that they are mapped.
func TestForgetWorksAfterScan(t *testing.T) {
	in := tree(t, map[string][]byte{"cat/1.png": picture(t, "png", 3, 3, 1), "dog/2.png": picture(t, "png", 3, 3, 2)})
	out, _ := shardInto(t, WriteConfig{In: in, ShardSize: 1})
	d := open(t, out)
	if err := d.Scan(context.Background(), func(Sample) {}); err != nil {
		t.Fatal(err)
	}
	for i, s := range d.shards {
		if !s.mapped.Load() {
			t.Errorf("shard %d was scanned, and is not among those that Forget tells the system of", i)
		}
	}
}

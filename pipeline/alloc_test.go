package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards"
)

// After the first batches, the pipeline allocates nothing for a sample but its
// key: all else is a batch's, whatever its size, or the decoder's.
func TestNoAllocationPerSample(t *testing.T) {
	data := picture(t, 20, 16, 0)
	d := copies(t, data, 64)
	var decoder decode.Decoder
	var image augment.Image
	decoding := testing.AllocsPerRun(100, func() {
		if err := decoder.Decode(data, &image); err != nil {
			t.Fatal(err)
		}
	})
	small, large := allocationsPerBatch(t, d, 8), allocationsPerBatch(t, d, 64)
	perSample := (large-small)/(64-8) - decoding
	if perSample > 2 { // the race detector makes pools drop a quarter of what they get
		t.Errorf("%.2f allocations a sample beside %.0f of the decoder; %.0f a batch of 8, %.0f a batch of 64", perSample, decoding, small, large)
	}
}

func allocationsPerBatch(t *testing.T, d *shards.Dataset, batchSize int) float64 {
	t.Helper()
	cfg := config(t, d)
	cfg.BatchSize, cfg.Epochs, cfg.Workers = batchSize, 0, 2
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	next := func(batches int) {
		for range batches {
			if !p.Next() {
				t.Fatal(p.Err())
			}
		}
	}
	const batches = 150 // so that those in the making at both ends do not matter
	next(batches)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	next(batches)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / batches
}

// copies is a dataset of n times the same image.
func copies(t testing.TB, data []byte, n int) *shards.Dataset {
	t.Helper()
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "shards")
	for i := range n {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%03d.jpg", i)), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: in, Out: out}); err != nil {
		t.Fatal(err)
	}
	d, err := shards.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

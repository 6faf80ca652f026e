package pipeline

import (
	"context"
	"testing"
)

// BenchmarkPipeline makes pairs of 224 x 224 pixels from JPEGs of 500 x 375.
// Its profile shows what the pipeline adds to decoding and augmentation.
func BenchmarkPipeline(b *testing.B) {
	cfg := config(b, copies(b, picture(b, 500, 375, 0), 64))
	cfg.Size, cfg.BatchSize, cfg.Epochs = 224, 64, 0
	p, err := Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for range 2 * cfg.withDefaults().Batches {
		p.Next()
	}
	b.ReportAllocs()
	pairs := int64(0)
	start := p.Stats().Pairs
	for b.Loop() {
		if pairs--; pairs < 0 { // an iteration is a pair
			if !p.Next() {
				b.Fatal(p.Err())
			}
			pairs += p.Record().NumRows()
		}
	}
	b.ReportMetric(float64(p.Stats().Pairs-start)/b.Elapsed().Seconds(), "pairs/s")
}

package pipeline

import (
	"context"
	"testing"
)

// Whatever comes was fetched before, and nothing more than is said to be ahead.
func TestPrefetchStaysAhead(t *testing.T) {
	d := dataset(t, 60)
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleNone, ShuffleWindow(16)} {
		cfg := config(t, d)
		cfg.Shuffle, cfg.Rank, cfg.World, cfg.Epochs, cfg.Start = shuffle, 1, 2, 3, Position{Epoch: 1, Offset: 11}
		cfg = cfg.withDefaults()
		p := newPlan(&cfg)
		f := newPrefetcher(&cfg, &p, cfg.Start)
		first := f.next
		for pos := cfg.Start; pos.Epoch < 3; {
			f.upTo(context.Background(), pos.Epoch, pos.Offset)
			place := p.place(pos.Offset)
			ahead := (f.epoch-pos.Epoch)*p.samples + f.next - place
			atEnd := f.epoch == 2 && f.next == p.samples
			if ahead > f.ahead || ahead < f.ahead-p.world && !atEnd {
				t.Fatalf("%s: at %+v, %d places are fetched ahead, want %d", shuffle, pos, ahead, f.ahead)
			}
			// The place itself was among them.
			found := false
			order := p.epoch(pos.Epoch)
			from, to := int64(0), p.samples
			if pos.Epoch == 1 {
				from = first
			}
			if pos.Epoch == f.epoch {
				to = f.next
			}
			for n := from; n < to; n++ {
				if _, at := order.fetch(n); at == place {
					found = true
				}
			}
			if !found {
				t.Fatalf("%s: at %+v, the sample was not fetched", shuffle, pos)
			}
			pos.Offset++
			pos = p.normal(pos)
		}
	}
}

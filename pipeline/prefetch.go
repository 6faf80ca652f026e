package pipeline

import "context"

// prefetchSamples of this rank are asked for ahead of the one that is read,
// enough for a disk to have something to choose from. With windows it is a
// window.
const prefetchSamples = 256

// prefetcher asks the system for samples ahead of their use, so that readers
// find them in memory. It belongs to the goroutine that plans.
type prefetcher struct {
	dataset Dataset
	plan    *plan
	epochs  int64 // 0: without end
	ahead   int64 // places of the epoch

	epoch, next int64 // what to fetch next
	order       order
}

func newPrefetcher(cfg *Config, plan *plan, from Position) *prefetcher {
	f := &prefetcher{dataset: cfg.Dataset, plan: plan, epochs: int64(cfg.Epochs), epoch: from.Epoch}
	ahead := int64(prefetchSamples)
	if cfg.Limit > 0 {
		ahead = min(ahead, cfg.Limit)
	}
	f.ahead = min(ahead*plan.world, plan.samples)
	f.next = from.Offset * plan.world
	if plan.window > 0 {
		f.ahead = plan.window
		f.next -= f.next % plan.window
	}
	f.order = plan.epoch(f.epoch)
	return f
}

// upTo asks for what comes in the epoch before the offset, and as far ahead as
// is to be fetched.
func (f *prefetcher) upTo(ctx context.Context, epoch, offset int64) {
	end := offset*f.plan.world + f.ahead
	for ctx.Err() == nil && (f.epoch-epoch)*f.plan.samples+f.next < end {
		if f.next >= f.plan.samples {
			if f.epochs > 0 && f.epoch+1 >= f.epochs {
				return
			}
			f.epoch, f.next = f.epoch+1, 0
			f.order = f.plan.epoch(f.epoch)
		}
		row, place := f.order.fetch(f.next)
		f.next++
		if place%f.plan.world == f.plan.rank && place/f.plan.world < f.plan.length {
			f.dataset.Prefetch(row)
		}
	}
}

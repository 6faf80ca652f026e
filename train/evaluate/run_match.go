package evaluate

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/options"
)

// MatchResult is what MatchRun finds for an encoder.
type MatchResult struct {
	Model string `json:"model"`
	Step  int64  `json:"step,omitempty"` // of a checkpoint
	Cells [2]int `json:"cells"`          // rows, columns
	MatchScores
}

// MatchReport is what MatchRun finds.
type MatchReport struct {
	Models []MatchResult `json:"models"`
	Recipe string        `json:"recipe"`
	Crop   float64       `json:"crop,omitempty"` // 0: the recipe's
	Ratio  float64       `json:"pos_ratio"`
	Size   int           `json:"size"`
	Stage  int           `json:"stage"`
}

// MatchRun draws pairs of views as training does and finds cells of one view
// again in the other by their features: see Matcher.
type MatchRun struct {
	Encoders Encoders
	Shards   string  // folder of shards
	Recipe   string  // a name or a file: see augment.ReadRecipe
	Crop     float64 // least part of the image that a crop covers, 0 for the recipe's
	Pairs    int
	Masks    string  // folder of the images' masks; "": none
	Ratio    float64 // distance below which cells match, in diagonals of the larger cell
}

// matchBatch is how many pairs are in memory at a time.
const matchBatch = 32

// Run reads, computes and measures.
func (r MatchRun) Run(ctx context.Context) (*MatchReport, error) {
	switch {
	case r.Pairs < 1:
		return nil, &options.Error{Name: "pairs", Value: fmt.Sprint(r.Pairs), Want: "must be at least 1"}
	case !(r.Ratio > 0):
		return nil, &options.Error{Name: "pos-ratio", Value: fmt.Sprint(r.Ratio), Want: "must be above 0"}
	}
	recipe, err := augment.ReadRecipe(r.Recipe)
	if err != nil {
		return nil, &options.Error{Name: "recipe", Value: r.Recipe, Want: err.Error()}
	}
	if recipe, err = recipe.WithCropsFrom(r.Crop); err != nil {
		return nil, &options.Error{Name: "crop", Value: fmt.Sprint(r.Crop), Want: err.Error()}
	}
	e := r.Encoders
	sources, err := e.Sources()
	if err != nil {
		return nil, err
	}
	dataset, err := shards.Open(r.Shards)
	if err != nil {
		return nil, err
	}
	defer dataset.Close()
	cfg := pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: e.Size, BatchSize: matchBatch, KeepLast: true, Limit: int64(r.Pairs),
		Seed: e.Seed, Workers: e.workers(), Limits: e.Limits, Listener: e.Listener,
	}
	var masks *MaskFiles
	if r.Masks != "" {
		var keys []string
		if err := dataset.Scan(ctx, func(s shards.Sample) { keys = append(keys, s.Key) }); err != nil {
			return nil, err
		}
		if masks, err = OpenMasks(ctx, r.Masks, slices.Values(keys)); err != nil {
			return nil, err
		}
	}
	report := &MatchReport{Recipe: r.Recipe, Crop: r.Crop, Ratio: r.Ratio, Size: e.Size, Stage: e.Stage}
	err = e.each(sources, 2*min(r.Pairs, matchBatch), func(s Source, x *Extractor, l Listener) error {
		m, err := matchViews(ctx, x, l, cfg, masks, r.Ratio)
		m.Model, m.Step = s.Name, s.Step
		report.Models = append(report.Models, m)
		cfg.Listener = nil // the next encoder gets the same pairs: bad images are known
		return err
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

// matchViews measures an encoder on a pipeline's pairs; masks may be nil.
func matchViews(ctx context.Context, x *Extractor, l Listener, cfg pipeline.Config, masks *MaskFiles, threshold float64) (r MatchResult, err error) {
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer p.Close()
	step := counter(l, "features of views", 2*int(cfg.Limit))
	var m *Matcher
	for p.Next() {
		b, err := pipeline.NewBatch(p.Record())
		if err != nil {
			return r, err
		}
		n := 3 * b.Size() * b.Size()
		f, err := x.Run(ctx, 2*b.Len(), func(_ *Loader, i int) (augment.Planes, error) {
			return augment.Planes{Width: b.Size(), Height: b.Size(), Pix: b.Views(i % 2)[i/2*n : (i/2+1)*n]}, nil
		}, step)
		if err != nil {
			return r, err
		}
		if m == nil {
			m = NewMatcher(f.Rows, f.Cols, f.Channels, threshold)
			r.Cells = [2]int{f.Rows, f.Cols}
		}
		for i := range b.Len() {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			var views [2]View
			for v := range views {
				views[v] = View{Map: f.Map(2*i + v), Coord: [4]float32(b.Coords(v)[4*i:])}
			}
			var mask *Mask
			if masks != nil {
				sample, err := cfg.Dataset.Sample(b.Index()[i])
				if err != nil {
					return r, err
				}
				if mask, err = masks.Read(sample.Key, int(sample.Width), int(sample.Height)); err != nil {
					return r, err
				}
			}
			m.Add(views[0], views[1], mask)
		}
	}
	if err := p.Err(); err != nil {
		return r, err
	}
	if m != nil {
		r.MatchScores = m.Scores()
	}
	if r.Queries == 0 {
		return r, fmt.Errorf("no cell of one view has a match in the other, in %d pairs: draw more pairs, crop larger parts (crop), or raise pos-ratio", cfg.Limit)
	}
	return r, nil
}

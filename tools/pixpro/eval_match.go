package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/options"
)

// matchResult is what eval match finds for an encoder.
type matchResult struct {
	Model string `json:"model"`
	Step  int64  `json:"step,omitempty"`
	Cells [2]int `json:"cells"` // rows, columns
	evaluate.MatchScores
}

// matchReport is the JSON of eval match.
type matchReport struct {
	Models []matchResult `json:"models"`
	Recipe string        `json:"recipe"`
	Crop   float64       `json:"crop,omitempty"` // 0: the recipe's
	Ratio  float64       `json:"pos_ratio"`
	Size   int           `json:"size"`
	Stage  int           `json:"stage"`
}

func (r *matchReport) table() string {
	rows := [][]string{{"weights", "top-1", "within one", "chance", "positive", "negative"}}
	masks := slices.ContainsFunc(r.Models, func(m matchResult) bool { return m.Inside != nil || m.Across != nil })
	if masks {
		rows[0] = append(rows[0], "inside", "across")
	}
	for _, m := range r.Models {
		row := []string{modelName(m.Model, m.Step), percent(m.Top1), percent(m.WithinOne), percent(m.Chance), cosineText(m.Positive), cosineText(m.Negative)}
		if masks {
			row = append(row, cosineText(m.Inside), cosineText(m.Across))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// cosineText writes a mean, of which there may be none.
func cosineText(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *v)
}

// matchOptions are what eval match measures on.
type matchOptions struct {
	views     viewFlags
	pairs     int
	masks     string // "": none
	threshold float64
}

func newEvalMatch() *cobra.Command {
	var (
		encoders encoderFlags
		opts     matchOptions
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "match --checkpoint PATH --shards DIR",
		Short: "Find cells of one view again in the other",
		Long: `Draw pairs of views as training does, by --recipe and --crop, whatever a
checkpoint was trained with. For each cell of the first view that the
second shows too, find the cell of the second with the most similar features,
and report how often that is a true positive by coordinates (top-1), or at most
one cell beside one; further the mean similarity of cells that are positives and
that are not. With --masks, also that of cells inside objects of one class, and
of cells in an object with those outside of it; class 0 is the background.`,
		Example: `  pixpro eval match --checkpoint run/ --untrained --shards shards/ --pairs 500
  pixpro eval match --checkpoint run/ --shards shards/ --masks masks/ --recipe none --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			if opts.pairs < 1 {
				return usageError{fmt.Errorf("--pairs %d: must be at least 1", opts.pairs)}
			}
			if !(opts.threshold > 0) {
				return usageError{fmt.Errorf("--pos-ratio %g: must be above 0", opts.threshold)}
			}
			sources, err := encoders.sources()
			if err != nil {
				return err
			}
			report, err := evalMatch(cmd.Context(), &encoders, sources, opts)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, report, report.table())
		},
	}
	f := cmd.Flags()
	preset := options.Default()
	encoders.add(f)
	f.Lookup("size").Usage = "side of the views in pixels (default: the first checkpoint's views, else 224)"
	f.StringVar(&opts.views.shards, "shards", "", "folder of shards")
	f.StringVar(&opts.views.recipe, "recipe", preset.Recipe, recipeUsage)
	f.Float64Var(&opts.views.crop, "crop", preset.Crop, cropUsage)
	f.IntVar(&opts.pairs, "pairs", 500, "pairs of views")
	f.StringVar(&opts.masks, "masks", "", "folder of the images' masks, under their keys but for the ending")
	f.Float64Var(&opts.threshold, "pos-ratio", preset.PixProPositiveRatio, "distance below which cells match, in cell diagonals")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// matchBatch is how many pairs are in memory at a time.
const matchBatch = 32

func evalMatch(ctx context.Context, encoders *encoderFlags, sources []encoderSource, opts matchOptions) (*matchReport, error) {
	opts.views.size, opts.views.seed, opts.views.workers = encoders.size, encoders.seed, encoders.workers()
	cfg, dataset, err := opts.views.open(pipeline.Config{BatchSize: matchBatch, KeepLast: true, Limit: int64(opts.pairs)})
	if err != nil {
		return nil, err
	}
	defer dataset.Close()
	var masks *evaluate.MaskFiles
	if opts.masks != "" {
		var keys []string
		if err := dataset.Scan(ctx, func(s shards.Sample) { keys = append(keys, s.Key) }); err != nil {
			return nil, err
		}
		if masks, err = evaluate.OpenMasks(ctx, opts.masks, slices.Values(keys)); err != nil {
			return nil, err
		}
	}
	report := &matchReport{Recipe: opts.views.recipe, Crop: opts.views.crop, Ratio: opts.threshold, Size: encoders.size, Stage: encoders.stage}
	for _, s := range sources {
		x, free, err := encoders.open(s, 2*min(opts.pairs, matchBatch))
		if err != nil {
			return nil, err
		}
		r, err := matchViews(ctx, x, s.name+": features of views", cfg, masks, opts.threshold)
		free()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		r.Model, r.Step = s.name, s.step
		report.Models = append(report.Models, r)
		cfg.Listener = nil // the next encoder gets the same pairs: bad images are known
	}
	return report, nil
}

// matchViews measures an encoder on a pipeline's pairs; masks may be nil.
func matchViews(ctx context.Context, x *evaluate.Extractor, what string, cfg pipeline.Config, masks *evaluate.MaskFiles, threshold float64) (r matchResult, err error) {
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer p.Close()
	step, finish := counter(what, 2*int(cfg.Limit))
	defer finish()
	var m *evaluate.Matcher
	for p.Next() {
		b, err := pipeline.NewBatch(p.Record())
		if err != nil {
			return r, err
		}
		n := 3 * b.Size() * b.Size()
		f, err := x.Run(ctx, 2*b.Len(), func(_ *evaluate.Loader, i int) (augment.Planes, error) {
			return augment.Planes{Width: b.Size(), Height: b.Size(), Pix: b.Views(i % 2)[i/2*n : (i/2+1)*n]}, nil
		}, step)
		if err != nil {
			return r, err
		}
		if m == nil {
			m = evaluate.NewMatcher(f.Rows, f.Cols, f.Channels, threshold)
			r.Cells = [2]int{f.Rows, f.Cols}
		}
		for i := range b.Len() {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			var views [2]evaluate.View
			for v := range views {
				views[v] = evaluate.View{Map: f.Map(2*i + v), Coord: [4]float32(b.Coords(v)[4*i:])}
			}
			var mask *evaluate.Mask
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
		return r, fmt.Errorf("no cell of one view has a match in the other, in %d pairs: draw more --pairs, crop larger parts with --crop, or raise --pos-ratio", cfg.Limit)
	}
	return r, nil
}

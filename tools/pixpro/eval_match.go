package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// matchResult is what eval match finds for an encoder.
type matchResult struct {
	Model string `json:"model"`
	Step  int64  `json:"step,omitempty"`
	evaluate.MatchScores
}

// matchReport is the JSON of eval match.
type matchReport struct {
	Models []matchResult `json:"models"`
	Recipe string        `json:"recipe"`
	Size   int           `json:"size"`
	Stage  int           `json:"stage"`
	Cells  [2]int        `json:"cells"` // rows, columns
}

func (r *matchReport) table() string {
	rows := [][]string{{"weights", "top-1", "within one", "chance", "positive", "negative"}}
	masks := r.Models[0].Inside != nil
	if masks {
		rows[0] = append(rows[0], "inside", "across")
	}
	for _, m := range r.Models {
		row := []string{modelName(m.Model, m.Step), percent(m.Top1), percent(m.WithinOne), percent(m.Chance), cosineText(m.Positive), cosineText(m.Negative)}
		if masks {
			row = append(row, cosineText(*m.Inside), cosineText(*m.Across))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

func cosineText(v float64) string { return fmt.Sprintf("%.3f", v) }

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
		Long: `Draw pairs of views as training does. For each cell of the first view that the
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
	preset := train.Default()
	encoders.add(f)
	f.StringVar(&opts.views.shards, "shards", "", "folder of shards")
	f.StringVar(&opts.views.recipe, "recipe", preset.Recipe, recipeUsage)
	f.Float64Var(&opts.views.crop, "crop", preset.Crop, cropUsage)
	f.IntVar(&opts.pairs, "pairs", 500, "pairs of views")
	f.StringVar(&opts.masks, "masks", "", "folder of the images' masks, under their keys but for the ending")
	f.Float64Var(&opts.threshold, "pos-ratio", preset.PixProPositiveRatio, "distance below which cells match, in cell diagonals")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// matchPair is a pair of views to measure on.
type matchPair struct {
	views  [2]augment.Planes
	coords [2][4]float32
	mask   *evaluate.Mask // nil without masks
}

func evalMatch(ctx context.Context, encoders *encoderFlags, sources []encoderSource, opts matchOptions) (*matchReport, error) {
	opts.views.size, opts.views.seed, opts.views.workers = encoders.size, encoders.seed, encoders.workers()
	pairs, err := drawPairs(ctx, opts)
	if err != nil {
		return nil, err
	}
	report := &matchReport{Recipe: opts.views.recipe, Size: encoders.size, Stage: encoders.stage}
	for _, s := range sources {
		x, free, err := encoders.open(s)
		if err != nil {
			return nil, err
		}
		features, err := extract(ctx, x, s.name+": features of views", 2*len(pairs), func(_ *evaluate.Loader, i int) (augment.Planes, error) {
			return pairs[i/2].views[i%2], nil
		})
		free()
		if err != nil {
			return nil, err
		}
		m := evaluate.NewMatcher(features.Rows, features.Cols, features.Channels, opts.threshold)
		for i, p := range pairs {
			m.Add(evaluate.View{Map: features.Maps[2*i], Coord: p.coords[0]}, evaluate.View{Map: features.Maps[2*i+1], Coord: p.coords[1]}, p.mask)
		}
		report.Cells = [2]int{features.Rows, features.Cols}
		report.Models = append(report.Models, matchResult{s.name, s.step, m.Scores()})
	}
	return report, nil
}

// drawPairs draws the pairs of views. They are kept: every encoder gets the same.
func drawPairs(ctx context.Context, opts matchOptions) ([]matchPair, error) {
	const batch = 32
	cfg, err := opts.views.open(pipeline.Config{BatchSize: batch, KeepLast: true, Limit: int64(opts.pairs)})
	if err != nil {
		return nil, err
	}
	defer cfg.Dataset.Close()
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var pairs []matchPair
	for p.Next() {
		record := p.Record()
		b, err := pipeline.ViewBatch(record)
		if err != nil {
			return nil, err
		}
		n := 3 * b.Size() * b.Size()
		for i := range b.Len() {
			var pair matchPair
			for v := range 2 {
				pair.views[v] = augment.NewPlanes(b.Size(), b.Size())
				copy(pair.views[v].Pix, b.Views(v)[i*n:(i+1)*n])
				pair.coords[v] = [4]float32(b.Coords(v)[4*i:])
			}
			if opts.masks != "" {
				sample, err := cfg.Dataset.Sample(b.Index()[i])
				if err != nil {
					return nil, err
				}
				if pair.mask, err = readMask(opts.masks, sample.Key, int(sample.Width), int(sample.Height)); err != nil {
					return nil, err
				}
			}
			pairs = append(pairs, pair)
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, errors.New("no image can be read")
	}
	return pairs, nil
}

// readMask reads the mask of the image with the given key and size.
func readMask(dir, key string, width, height int) (*evaluate.Mask, error) {
	path := filepath.Join(dir, filepath.FromSlash(strings.TrimSuffix(key, filepath.Ext(key))+".png"))
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("mask of %s: %w", key, err)
	}
	m, err := evaluate.DecodeMask(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Width != width || m.Height != height {
		return nil, fmt.Errorf("%s is %d x %d pixels, the image %s %d x %d", path, m.Width, m.Height, key, width, height)
	}
	return &m, nil
}

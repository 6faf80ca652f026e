package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/options"
)

func matchTable(r *evaluate.MatchReport) string {
	rows := [][]string{{"weights", "top-1", "within one", "chance", "positive", "negative"}}
	masks := slices.ContainsFunc(r.Models, func(m evaluate.MatchResult) bool { return m.Inside != nil || m.Across != nil })
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

func init() { evaluations = append(evaluations, newEvalMatch) }

func newEvalMatch() *cobra.Command {
	var (
		run    evaluate.MatchRun
		asJSON bool
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
			listen, finish := evaluationBars()
			run.Encoders.Listener = listen
			report, err := run.Run(cmd.Context())
			finish()
			if err != nil {
				return asUsage(err)
			}
			return result(cmd, asJSON, report, matchTable(report))
		},
	}
	f := cmd.Flags()
	preset := options.Default()
	encoderFlags(f, &run.Encoders)
	f.Lookup("size").Usage = "side of the views in pixels (default: the first checkpoint's views, else 224)"
	f.StringVar(&run.Shards, "shards", "", "folder of shards")
	f.StringVar(&run.Recipe, "recipe", preset.Recipe, recipeUsage)
	f.Float64Var(&run.Crop, "crop", preset.Crop, cropUsage)
	f.IntVar(&run.Pairs, "pairs", 500, "pairs of views")
	f.StringVar(&run.Masks, "masks", "", "folder of the images' masks, under their keys but for the ending")
	f.Float64Var(&run.Ratio, "pos-ratio", preset.PixProPositiveRatio, "distance below which cells match, in cell diagonals")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

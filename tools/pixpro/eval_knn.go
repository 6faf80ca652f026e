package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train/evaluate"
)

func knnTable(r *evaluate.KNNReport) string {
	rows := [][]string{{"weights", fmt.Sprintf("%d-NN accuracy", r.K)}}
	for _, m := range r.Models {
		rows = append(rows, []string{modelName(m.Model, m.Step), percent(m.Accuracy)})
	}
	return table(rows)
}

func init() { evaluations = append(evaluations, newEvalKNN) }

func newEvalKNN() *cobra.Command {
	var (
		run    evaluate.KNNRun
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "knn --checkpoint PATH --train SHARDS [--val SHARDS]",
		Short: "Classify whole images by their nearest neighbours",
		Long: `Classify images by the classes of their nearest neighbours among others: by the
cosine of mean features, with votes that weigh exp(cosine / temperature). Shards
must have labels; images without one are left out. Without --val, each image of
--train is classified by all others.`,
		Example: `  pixpro eval knn --checkpoint run/ --untrained --train shards/ --val val-shards/
  pixpro eval knn --checkpoint run/ --train shards/ --k 5 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "train"); err != nil {
				return err
			}
			listen, finish := evaluationBars()
			run.Encoders.Listener = listen
			report, err := run.Run(cmd.Context())
			finish()
			if err != nil {
				return asUsage(err)
			}
			return result(cmd, asJSON, report, knnTable(report))
		},
	}
	f := cmd.Flags()
	encoderFlags(f, &run.Encoders)
	f.StringVar(&run.Train, "train", "", "folder of shards with the neighbours")
	f.StringVar(&run.Val, "val", "", "folder of shards with the images to classify")
	f.IntVar(&run.Options.K, "k", 20, "neighbours that vote")
	f.Float64Var(&run.Options.Temperature, "temperature", 0.07, "temperature of the votes")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

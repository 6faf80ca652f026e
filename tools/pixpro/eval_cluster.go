package main

import (
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train/evaluate"
)

func init() { evaluations = append(evaluations, newEvalCluster) }

func newEvalCluster() *cobra.Command {
	var (
		run    evaluate.ClusterRun
		raw    bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "cluster --checkpoint PATH --val IMAGES --val-masks MASKS",
		Short: "Cluster features and match clusters with classes: mIoU without training",
		Long: `Cluster the cells' features of all images by k-means, give each cluster a class
so that most pixels are right (Hungarian matching), and report the mean
intersection over union and the pixel accuracy. Nothing is trained.

With more --clusters than classes, those left over after the matching get the
class that most of their pixels have.`,
		Example: `  pixpro eval cluster --checkpoint run/ --untrained --val val/ --val-masks val-masks/
  pixpro eval cluster --checkpoint run/ --val val/ --val-masks val-masks/ --clusters 30 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "val", "val-masks"); err != nil {
				return err
			}
			run.Options.Normalize = !raw
			listen, finish := evaluationBars()
			run.Encoders.Listener = listen
			report, err := run.Run(cmd.Context())
			finish()
			if err != nil {
				return asUsage(err)
			}
			return result(cmd, asJSON, report, denseTable(report, "cluster mIoU"))
		},
	}
	f := cmd.Flags()
	encoderFlags(f, &run.Encoders)
	f.StringVar(&run.Val, "val", "", "folder of images")
	f.StringVar(&run.ValMasks, "val-masks", "", "folder of their masks")
	f.IntVar(&run.Classes, "classes", 0, "number of classes (default: one more than the masks' largest index)")
	f.IntVar(&run.Options.K, "clusters", 0, "number of clusters (default: that of the classes)")
	f.IntVar(&run.Options.Restarts, "restarts", 5, "starts of k-means, of which the best is taken")
	f.IntVar(&run.Options.Iterations, "iterations", 100, "iterations of k-means at most")
	f.BoolVar(&raw, "raw", false, "cluster features as they are, without dividing each by its length")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

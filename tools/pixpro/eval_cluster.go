package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train/evaluate"
)

func newEvalCluster() *cobra.Command {
	var (
		encoders encoderFlags
		images   string
		masks    string
		classes  int
		opts     = evaluate.ClusterOptions{Normalize: true}
		raw      bool
		asJSON   bool
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
			if err := checkClasses(classes); err != nil {
				return err
			}
			if opts.K < 0 || opts.Restarts < 1 || opts.Iterations < 1 {
				return usageError{fmt.Errorf("--clusters %d --restarts %d --iterations %d: clusters must not be negative, the others at least 1", opts.K, opts.Restarts, opts.Iterations)}
			}
			sources, err := encoders.sources()
			if err != nil {
				return err
			}
			folder, err := evaluate.OpenFolder(cmd.Context(), images, masks)
			if err != nil {
				return err
			}
			if classes, err = countClasses(classes, folder); err != nil {
				return err
			}
			if opts.K == 0 {
				opts.K = classes
			}
			if opts.K < classes {
				return usageError{fmt.Errorf("--clusters %d: there are %d classes; use at least as many", opts.K, classes)}
			}
			opts.Normalize = !raw
			report, err := evalCluster(cmd.Context(), &encoders, sources, folder, classes, opts)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, report, report.table("cluster mIoU"))
		},
	}
	f := cmd.Flags()
	encoders.add(f)
	f.StringVar(&images, "val", "", "folder of images")
	f.StringVar(&masks, "val-masks", "", "folder of their masks")
	f.IntVar(&classes, "classes", 0, "number of classes (default: one more than the masks' largest index)")
	f.IntVar(&opts.K, "clusters", 0, "number of clusters (default: that of the classes)")
	f.IntVar(&opts.Restarts, "restarts", 5, "starts of k-means, of which the best is taken")
	f.IntVar(&opts.Iterations, "iterations", 100, "iterations of k-means at most")
	f.BoolVar(&raw, "raw", false, "cluster features as they are, without dividing each by its length")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func evalCluster(ctx context.Context, encoders *encoderFlags, sources []encoderSource, folder *evaluate.Folder, classes int, opts evaluate.ClusterOptions) (*denseReport, error) {
	report := &denseReport{Classes: classes, Size: encoders.size, Stage: encoders.stage, Val: len(folder.Names), Clusters: opts.K}
	opts.Seed, opts.Workers = encoders.seed, encoders.workers()
	for _, s := range sources {
		x, free, err := encoders.open(s, len(folder.Names))
		if err != nil {
			return nil, err
		}
		features, err := folderFeatures(ctx, x, s.name+": features", folder, encoders.size)
		free()
		var scores evaluate.ClusterScores
		if err == nil {
			scores, err = clusterFeatures(ctx, s.name, features, folder.Masks, classes, opts)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		report.Models = append(report.Models, denseResult{Model: s.name, Step: s.step, Scores: scores.Scores, ClassOf: scores.ClassOf})
	}
	return report, nil
}

// clusterFeatures clusters with a progress bar: k-means ends no later than it.
func clusterFeatures(ctx context.Context, name string, f *evaluate.Features, masks []evaluate.Mask, classes int, opts evaluate.ClusterOptions) (evaluate.ClusterScores, error) {
	bar := newProgress(name+": k-means", 0, false)
	defer bar.finish()
	opts.Step = func(restart, iteration int) {
		bar.set(int64(restart*opts.Iterations+iteration), int64(opts.Restarts*opts.Iterations), "")
	}
	return evaluate.Cluster(ctx, f, masks, classes, opts)
}

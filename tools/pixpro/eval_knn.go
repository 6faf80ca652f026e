package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// knnResult is what eval knn finds for an encoder.
type knnResult struct {
	Model    string  `json:"model"`
	Step     int64   `json:"step,omitempty"`
	Accuracy float64 `json:"accuracy"`
}

// knnReport is the JSON of eval knn.
type knnReport struct {
	Models  []knnResult `json:"models"`
	K       int         `json:"k"`
	Classes int         `json:"classes"`
	Size    int         `json:"size"`
	Stage   int         `json:"stage"`
	Train   int         `json:"train_images"`
	Val     int         `json:"val_images"` // those of train where each is classified by all others
}

func (r *knnReport) table() string {
	rows := [][]string{{"weights", fmt.Sprintf("%d-NN accuracy", r.K)}}
	for _, m := range r.Models {
		rows = append(rows, []string{modelName(m.Model, m.Step), percent(m.Accuracy)})
	}
	return table(rows)
}

func newEvalKNN() *cobra.Command {
	var (
		encoders    encoderFlags
		points, val string
		opts        evaluate.NeighborsOptions
		asJSON      bool
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
			if opts.K < 1 || !(opts.Temperature > 0) {
				return usageError{fmt.Errorf("--k %d --temperature %g: k must be at least 1, the temperature above 0", opts.K, opts.Temperature)}
			}
			sources, err := encoders.sources()
			if err != nil {
				return err
			}
			trainSet, err := openLabelled(cmd.Context(), points)
			if err != nil {
				return err
			}
			defer trainSet.Close()
			var valSet *labelled
			if val != "" {
				if valSet, err = openLabelled(cmd.Context(), val); err != nil {
					return err
				}
				defer valSet.Close()
				if err := valSet.translate(trainSet); err != nil {
					return err
				}
			}
			others := len(trainSet.rows)
			if valSet == nil {
				others-- // an image is not its own neighbour
			}
			if opts.K > others {
				return usageError{fmt.Errorf("--k %d: %s has %d images with a label to choose from; use at most so many", opts.K, points, others)}
			}
			report, err := evalKNN(cmd.Context(), &encoders, sources, trainSet, valSet, opts)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, report, report.table())
		},
	}
	f := cmd.Flags()
	encoders.add(f)
	f.StringVar(&points, "train", "", "folder of shards with the neighbours")
	f.StringVar(&val, "val", "", "folder of shards with the images to classify")
	f.IntVar(&opts.K, "k", 20, "neighbours that vote")
	f.Float64Var(&opts.Temperature, "temperature", 0.07, "temperature of the votes")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// labelled are the rows of a dataset that have a label.
type labelled struct {
	*shards.Dataset
	dir    string
	rows   []int64
	labels []int
}

func openLabelled(ctx context.Context, dir string) (*labelled, error) {
	d, err := shards.Open(dir)
	if err != nil {
		return nil, err
	}
	l := &labelled{Dataset: d, dir: dir}
	row := int64(0)
	err = d.Scan(ctx, func(s shards.Sample) {
		if s.Label >= 0 {
			l.rows, l.labels = append(l.rows, row), append(l.labels, int(s.Label))
		}
		row++
	})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if len(l.rows) == 0 {
		d.Close()
		return nil, fmt.Errorf("%s has no image with a label: shard a folder of class folders, or give labels with pixpro shard --labels", dir)
	}
	return l, nil
}

// translate numbers the labels as the other dataset does, by the classes' names;
// of classes without a name that is their number.
func (l *labelled) translate(other *labelled) error {
	index := map[string]int{}
	for i, name := range other.Classes() {
		index[name] = i
	}
	names := l.Classes()
	for i, label := range l.labels {
		class, ok := index[names[label]]
		if !ok {
			return fmt.Errorf("%s has images of the class %q, which %s has not: shard both from folders of the same classes, or both with --labels of one kind", l.dir, names[label], other.dir)
		}
		l.labels[i] = class
	}
	return nil
}

// features computes the mean features of the images.
func (l *labelled) features(ctx context.Context, x *evaluate.Extractor, what string, size int) (evaluate.Points, error) {
	step, finish := counter(what, len(l.rows))
	defer finish()
	return x.Means(ctx, len(l.rows), func(loader *evaluate.Loader, i int) (augment.Planes, error) {
		s, err := l.Sample(l.rows[i])
		if err != nil {
			return augment.Planes{}, err
		}
		planes, err := loader.Load(s.Image, size)
		if err != nil {
			return planes, fmt.Errorf("%s: %s: %w", l.dir, s.Key, err)
		}
		return planes, nil
	}, step)
}

func evalKNN(ctx context.Context, encoders *encoderFlags, sources []encoderSource, trainSet, valSet *labelled, opts evaluate.NeighborsOptions) (*knnReport, error) {
	report := &knnReport{K: opts.K, Classes: len(trainSet.Classes()), Size: encoders.size, Stage: encoders.stage, Train: len(trainSet.rows)}
	opts.Workers = encoders.workers()
	images := len(trainSet.rows)
	if valSet != nil {
		images = max(images, len(valSet.rows))
	}
	for _, s := range sources {
		x, free, err := encoders.open(s, images)
		if err != nil {
			return nil, err
		}
		points, err := trainSet.features(ctx, x, s.name+": features of neighbours", encoders.size)
		truth := trainSet.labels
		var queries *evaluate.Points
		if err == nil && valSet != nil {
			var q evaluate.Points
			q, err = valSet.features(ctx, x, s.name+": features", encoders.size)
			queries, truth = &q, valSet.labels
		}
		free()
		var predicted []int
		if err == nil {
			predicted, err = evaluate.Neighbors(ctx, points, trainSet.labels, queries, opts)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		right := 0
		for i, class := range predicted {
			if class == truth[i] {
				right++
			}
		}
		report.Val = len(truth)
		report.Models = append(report.Models, knnResult{s.name, s.step, float64(right) / float64(len(truth))})
	}
	return report, nil
}

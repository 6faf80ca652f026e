package evaluate

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/options"
)

// KNNResult is what KNNRun finds for an encoder.
type KNNResult struct {
	Model    string  `json:"model"`
	Step     int64   `json:"step,omitempty"` // of a checkpoint
	Accuracy float64 `json:"accuracy"`
}

// KNNReport is what KNNRun finds.
type KNNReport struct {
	Models  []KNNResult `json:"models"`
	K       int         `json:"k"`
	Classes int         `json:"classes"`
	Size    int         `json:"size"`
	Stage   int         `json:"stage"`
	Train   int         `json:"train_images"`
	Val     int         `json:"val_images"` // those of train where each is classified by all others
}

// KNNRun classifies whole images by their nearest neighbours: see Neighbors.
type KNNRun struct {
	Encoders Encoders
	Train    string // folder of shards with the neighbours
	Val      string // and with the images to classify; "": each of Train by all others
	Options  NeighborsOptions
}

// Run reads, computes and measures.
func (r KNNRun) Run(ctx context.Context) (*KNNReport, error) {
	opts, e := r.Options, r.Encoders
	switch {
	case opts.K < 1:
		return nil, &options.Error{Name: "k", Value: fmt.Sprint(opts.K), Want: "must be at least 1"}
	case !(opts.Temperature > 0):
		return nil, &options.Error{Name: "temperature", Value: fmt.Sprint(opts.Temperature), Want: "must be above 0"}
	}
	sources, err := e.Sources()
	if err != nil {
		return nil, err
	}
	trainSet, err := openLabelled(ctx, r.Train)
	if err != nil {
		return nil, err
	}
	defer trainSet.Close()
	images, others, truth := len(trainSet.rows), len(trainSet.rows)-1, trainSet.labels // an image is not its own neighbour
	var valSet *labelled
	if r.Val != "" {
		if valSet, err = openLabelled(ctx, r.Val); err != nil {
			return nil, err
		}
		defer valSet.Close()
		if err := valSet.translate(trainSet); err != nil {
			return nil, err
		}
		images, others, truth = max(images, len(valSet.rows)), len(trainSet.rows), valSet.labels
	}
	if opts.K > others {
		return nil, &options.Error{Name: "k", Value: fmt.Sprint(opts.K), Want: fmt.Sprintf("%s has %d images with a label to choose from; use at most so many", r.Train, others)}
	}
	report := &KNNReport{K: opts.K, Classes: len(trainSet.Classes()), Size: e.Size, Stage: e.Stage, Train: len(trainSet.rows), Val: len(truth)}
	opts.Workers = e.workers()
	err = e.each(sources, images, func(s Source, x *Extractor, l Listener) error {
		points, err := trainSet.features(ctx, x, l, "features of neighbours", e.Size)
		if err != nil {
			return err
		}
		var queries *Points
		if valSet != nil {
			q, err := valSet.features(ctx, x, l, "features", e.Size)
			if err != nil {
				return err
			}
			queries = &q
		}
		predicted, err := Neighbors(ctx, points, trainSet.labels, queries, opts)
		if err != nil {
			return err
		}
		right := 0
		for i, class := range predicted {
			if class == truth[i] {
				right++
			}
		}
		report.Models = append(report.Models, KNNResult{s.Name, s.Step, float64(right) / float64(len(truth))})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return report, nil
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
func (d *labelled) features(ctx context.Context, x *Extractor, l Listener, what string, size int) (Points, error) {
	return x.Means(ctx, len(d.rows), func(loader *Loader, i int) (augment.Planes, error) {
		s, err := d.Sample(d.rows[i])
		if err != nil {
			return augment.Planes{}, err
		}
		planes, err := loader.Load(s.Image, size)
		if err != nil {
			return planes, fmt.Errorf("%s: %s: %w", d.dir, s.Key, err)
		}
		return planes, nil
	}, counter(l, what, len(d.rows)))
}

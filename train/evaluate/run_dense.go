package evaluate

import (
	"context"
	"fmt"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/options"
)

// DenseResult is what SegmentRun and ClusterRun find for an encoder.
type DenseResult struct {
	Model string `json:"model"`
	Step  int64  `json:"step,omitempty"` // of a checkpoint
	Scores
	ClassOf []int `json:"class_of_cluster,omitempty"`
}

// DenseReport is what SegmentRun and ClusterRun find.
type DenseReport struct {
	Models   []DenseResult `json:"models"`
	Classes  int           `json:"classes"`
	Size     int           `json:"size"`
	Stage    int           `json:"stage"`
	Train    int           `json:"train_images,omitempty"`
	Val      int           `json:"val_images"`
	Probe    string        `json:"probe,omitempty"`
	Clusters int           `json:"clusters,omitempty"`
}

// SegmentRun trains a classifier of cells on frozen features of one folder of
// images with masks, and measures it on another: see Segment.
type SegmentRun struct {
	Encoders      Encoders
	Train, Masks  string // folders of images and masks to learn from
	Val, ValMasks string // and to measure on
	Classes       int    // 0: one more than the masks' largest index
	Probe         ProbeOptions
}

// Run reads, computes and measures.
func (r SegmentRun) Run(ctx context.Context) (*DenseReport, error) {
	if err := checkClasses(r.Classes); err != nil {
		return nil, err
	}
	if err := r.Probe.Validate(); err != nil {
		return nil, err
	}
	e := r.Encoders
	sources, err := e.Sources()
	if err != nil {
		return nil, err
	}
	trainSet, err := OpenFolder(ctx, r.Train, r.Masks)
	if err != nil {
		return nil, err
	}
	valSet, err := OpenFolder(ctx, r.Val, r.ValMasks)
	if err != nil {
		return nil, err
	}
	classes, err := countClasses(r.Classes, trainSet, valSet)
	if err != nil {
		return nil, err
	}
	report := &DenseReport{Classes: classes, Size: e.Size, Stage: e.Stage, Train: len(trainSet.Names), Val: len(valSet.Names), Probe: r.Probe.Kind}
	probe := r.Probe
	probe.Seed, probe.Workers = e.Seed, e.workers()
	err = e.each(sources, max(len(trainSet.Names), len(valSet.Names)), func(s Source, x *Extractor, l Listener) error {
		features, err := x.folder(ctx, l, "features to learn from", trainSet, e.Size)
		if err != nil {
			return err
		}
		val, err := x.folder(ctx, l, "features to measure on", valSet, e.Size)
		if err != nil {
			return err
		}
		// One thread computes the classifier: what several would sum depends on
		// their number.
		d := cpu.New(1)
		defer d.Close()
		probe.Listener = l
		scores, err := Segment(ctx, d, features, val, trainSet.Masks, valSet.Masks, classes, probe)
		report.Models = append(report.Models, DenseResult{Model: s.Name, Step: s.Step, Scores: scores})
		return err
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

// ClusterRun clusters the cells of a folder of images, and measures the clusters
// by their masks: see Cluster.
type ClusterRun struct {
	Encoders      Encoders
	Val, ValMasks string         // folders of images and masks
	Classes       int            // 0: one more than the masks' largest index
	Options       ClusterOptions // K 0: as many as classes
}

// Run reads, computes and measures.
func (r ClusterRun) Run(ctx context.Context) (*DenseReport, error) {
	opts := r.Options
	if err := checkClasses(r.Classes); err != nil {
		return nil, err
	}
	switch {
	case opts.K < 0:
		return nil, &options.Error{Name: "clusters", Value: fmt.Sprint(opts.K), Want: "must not be negative"}
	case opts.Restarts < 1:
		return nil, &options.Error{Name: "restarts", Value: fmt.Sprint(opts.Restarts), Want: "must be at least 1"}
	case opts.Iterations < 1:
		return nil, &options.Error{Name: "iterations", Value: fmt.Sprint(opts.Iterations), Want: "must be at least 1"}
	}
	e := r.Encoders
	sources, err := e.Sources()
	if err != nil {
		return nil, err
	}
	folder, err := OpenFolder(ctx, r.Val, r.ValMasks)
	if err != nil {
		return nil, err
	}
	classes, err := countClasses(r.Classes, folder)
	if err != nil {
		return nil, err
	}
	if opts.K == 0 {
		opts.K = classes
	}
	if opts.K < classes {
		return nil, &options.Error{Name: "clusters", Value: fmt.Sprint(opts.K), Want: fmt.Sprintf("there are %d classes; use at least as many", classes)}
	}
	report := &DenseReport{Classes: classes, Size: e.Size, Stage: e.Stage, Val: len(folder.Names), Clusters: opts.K}
	opts.Seed, opts.Workers = e.Seed, e.workers()
	err = e.each(sources, len(folder.Names), func(s Source, x *Extractor, l Listener) error {
		features, err := x.folder(ctx, l, "features", folder, e.Size)
		if err != nil {
			return err
		}
		opts.Listener = l
		scores, err := Cluster(ctx, features, folder.Masks, classes, opts)
		report.Models = append(report.Models, DenseResult{Model: s.Name, Step: s.Step, Scores: scores.Scores, ClassOf: scores.ClassOf})
		return err
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

func checkClasses(classes int) error {
	if classes < 0 || classes > Ignore {
		return &options.Error{Name: "classes", Value: fmt.Sprint(classes), Want: fmt.Sprintf("use up to %d", Ignore)}
	}
	return nil
}

// countClasses is the number of classes of the folders, at least 2; wanted, if
// not 0, must be enough for their masks.
func countClasses(wanted int, folders ...*Folder) (int, error) {
	found := 0
	for _, f := range folders {
		found = max(found, f.Classes())
	}
	switch {
	case wanted == 0:
		return max(found, 2), nil
	case wanted < found:
		return 0, &options.Error{Name: "classes", Value: fmt.Sprint(wanted), Want: fmt.Sprintf("the masks have class %d", found-1)}
	}
	return wanted, nil
}

// folder computes the features of a folder's images.
func (x *Extractor) folder(ctx context.Context, l Listener, what string, f *Folder, size int) (*Features, error) {
	return x.Run(ctx, len(f.Images), func(loader *Loader, i int) (augment.Planes, error) {
		return loader.LoadFile(f.Images[i], size)
	}, counter(l, what, len(f.Images)))
}

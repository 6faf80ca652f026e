package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// denseResult is what eval segment and eval cluster find for an encoder.
type denseResult struct {
	Model string `json:"model"`
	Step  int64  `json:"step,omitempty"` // of a checkpoint
	evaluate.Scores
	ClassOf []int `json:"class_of_cluster,omitempty"`
}

// denseReport is the JSON of eval segment and eval cluster.
type denseReport struct {
	Models   []denseResult `json:"models"`
	Classes  int           `json:"classes"`
	Size     int           `json:"size"`
	Stage    int           `json:"stage"`
	Train    int           `json:"train_images,omitempty"`
	Val      int           `json:"val_images"`
	Probe    string        `json:"probe,omitempty"`
	Clusters int           `json:"clusters,omitempty"`
}

func (r *denseReport) table(what string) string {
	rows := [][]string{{"weights", what, "pixel accuracy", "IoU of each class"}}
	for _, m := range r.Models {
		perClass := ""
		for _, iou := range m.IoU {
			v := math.NaN()
			if iou != nil {
				v = *iou
			}
			perClass += percent(v) + " "
		}
		rows = append(rows, []string{modelName(m.Model, m.Step), percent(m.MeanIoU), percent(m.Accuracy), perClass})
	}
	return table(rows)
}

func modelName(name string, step int64) string {
	if step > 0 {
		return fmt.Sprintf("%s (step %d)", name, step)
	}
	return name
}

func newEvalSegment() *cobra.Command {
	var (
		encoders                          encoderFlags
		images, masks, valImages, valMask string
		classes                           int
		probe                             = evaluate.DefaultProbe()
		asJSON                            bool
	)
	cmd := &cobra.Command{
		Use:   "segment --checkpoint PATH --train IMAGES --masks MASKS --val IMAGES --val-masks MASKS",
		Short: "Train a classifier of cells on frozen features: mIoU and pixel accuracy",
		Long: `Train a classifier of cells (a 1x1 convolution, or --probe mlp) on the frozen
features of images with masks, and report the mean intersection over union and
the pixel accuracy on others: its scores, interpolated to every pixel of the
masks. A mask is a PNG, grey or with a palette, of class indices, of the image's
size, with the image's name and path but for the ending; 255 counts nowhere.`,
		Example: `  pixpro eval segment --checkpoint run/ --untrained --train images/ --masks masks/ --val val/ --val-masks val-masks/
  pixpro eval segment --checkpoint run/ --init resnet50.pth --probe mlp --train images/ --masks masks/ --val val/ --val-masks val-masks/ --json
  pixpro eval segment --checkpoint run/checkpoints/step-00001000 --checkpoint run/ --stage 3 --train images/ --masks masks/ --val val/ --val-masks val-masks/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "train", "masks", "val", "val-masks"); err != nil {
				return err
			}
			if err := checkClasses(classes); err != nil {
				return err
			}
			if err := probe.Validate(); err != nil {
				return usageError{err}
			}
			sources, err := encoders.sources()
			if err != nil {
				return err
			}
			trainSet, err := evaluate.OpenFolder(cmd.Context(), images, masks)
			if err != nil {
				return err
			}
			valSet, err := evaluate.OpenFolder(cmd.Context(), valImages, valMask)
			if err != nil {
				return err
			}
			if classes, err = countClasses(classes, trainSet, valSet); err != nil {
				return err
			}
			report, err := evalSegment(cmd.Context(), &encoders, sources, trainSet, valSet, classes, probe)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, report, report.table("mIoU"))
		},
	}
	f := cmd.Flags()
	encoders.add(f)
	f.StringVar(&images, "train", "", "folder of images that the classifier learns from")
	f.StringVar(&masks, "masks", "", "folder of their masks")
	f.StringVar(&valImages, "val", "", "folder of images that it is measured on")
	f.StringVar(&valMask, "val-masks", "", "folder of their masks")
	f.IntVar(&classes, "classes", 0, "number of classes (default: one more than the masks' largest index)")
	f.StringVar(&probe.Kind, "probe", probe.Kind, "classifier: linear or mlp")
	f.IntVar(&probe.Epochs, "probe-epochs", probe.Epochs, "times that the classifier sees every image")
	f.IntVar(&probe.Batch, "probe-batch", probe.Batch, "images in a step of the classifier")
	f.Float64Var(&probe.Rate, "probe-lr", probe.Rate, "first learning rate of the classifier, 0 for 10, or 1 of an mlp")
	f.Float64Var(&probe.Decay, "probe-weight-decay", probe.Decay, "weight decay of the classifier")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func checkClasses(classes int) error {
	if classes < 0 || classes > evaluate.Ignore {
		return usageError{fmt.Errorf("--classes %d: use up to %d", classes, evaluate.Ignore)}
	}
	return nil
}

// countClasses is the number of classes of the folders, at least 2; wanted, if
// not 0, must be enough for their masks.
func countClasses(wanted int, folders ...*evaluate.Folder) (int, error) {
	found := 0
	for _, f := range folders {
		found = max(found, f.Classes())
	}
	switch {
	case wanted == 0:
		return max(found, 2), nil
	case wanted < found:
		return 0, usageError{fmt.Errorf("--classes %d: the masks have class %d", wanted, found-1)}
	}
	return wanted, nil
}

// folderFeatures computes the features of a folder's images.
func folderFeatures(ctx context.Context, x *evaluate.Extractor, what string, f *evaluate.Folder, size int) (*evaluate.Features, error) {
	step, finish := counter(what, len(f.Images))
	defer finish()
	return x.Run(ctx, len(f.Images), func(l *evaluate.Loader, i int) (augment.Planes, error) {
		return loadFile(l, f.Images[i], size)
	}, step)
}

func evalSegment(ctx context.Context, encoders *encoderFlags, sources []encoderSource, trainSet, valSet *evaluate.Folder, classes int, probe evaluate.ProbeOptions) (*denseReport, error) {
	report := &denseReport{Classes: classes, Size: encoders.size, Stage: encoders.stage, Train: len(trainSet.Names), Val: len(valSet.Names), Probe: probe.Kind}
	probe.Seed, probe.Workers = encoders.seed, encoders.workers()
	for _, s := range sources {
		x, free, err := encoders.open(s, max(len(trainSet.Names), len(valSet.Names)))
		if err != nil {
			return nil, err
		}
		features, err := folderFeatures(ctx, x, s.name+": features to learn from", trainSet, encoders.size)
		if err == nil {
			var val *evaluate.Features
			if val, err = folderFeatures(ctx, x, s.name+": features to measure on", valSet, encoders.size); err == nil {
				var scores evaluate.Scores
				if scores, err = trainProbe(ctx, s.name, features, val, trainSet.Masks, valSet.Masks, classes, probe); err == nil {
					report.Models = append(report.Models, denseResult{Model: s.name, Step: s.step, Scores: scores})
				}
			}
		}
		free()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return report, nil
}

// trainProbe trains and measures a classifier with a progress bar. One thread
// computes it: what several would sum depends on their number.
func trainProbe(ctx context.Context, name string, trainSet, valSet *evaluate.Features, trainMasks, valMasks []evaluate.Mask, classes int, probe evaluate.ProbeOptions) (evaluate.Scores, error) {
	d := cpu.New(1)
	defer d.Close()
	bar := newProgress(name+": classifier", 0, false)
	defer bar.finish()
	probe.Step = func(done, total int) { bar.set(int64(done), int64(total), "") }
	return evaluate.Segment(ctx, d, trainSet, valSet, trainMasks, valMasks, classes, probe)
}

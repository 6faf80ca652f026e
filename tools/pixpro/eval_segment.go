package main

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// denseTable is the table of eval segment and eval cluster.
func denseTable(r *evaluate.DenseReport, what string) string {
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

func init() { evaluations = append(evaluations, newEvalSegment) }

func newEvalSegment() *cobra.Command {
	run := evaluate.SegmentRun{Probe: evaluate.DefaultProbe()}
	var asJSON bool
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
			listen, finish := evaluationBars()
			run.Encoders.Listener = listen
			report, err := run.Run(cmd.Context())
			finish()
			if err != nil {
				return asUsage(err)
			}
			return result(cmd, asJSON, report, denseTable(report, "mIoU"))
		},
	}
	f := cmd.Flags()
	encoderFlags(f, &run.Encoders)
	f.StringVar(&run.Train, "train", "", "folder of images that the classifier learns from")
	f.StringVar(&run.Masks, "masks", "", "folder of their masks")
	f.StringVar(&run.Val, "val", "", "folder of images that it is measured on")
	f.StringVar(&run.ValMasks, "val-masks", "", "folder of their masks")
	f.IntVar(&run.Classes, "classes", 0, "number of classes (default: one more than the masks' largest index)")
	f.StringVar(&run.Probe.Kind, "probe", run.Probe.Kind, "classifier: linear or mlp")
	f.IntVar(&run.Probe.Epochs, "probe-epochs", run.Probe.Epochs, "times that the classifier sees every image")
	f.IntVar(&run.Probe.Batch, "probe-batch", run.Probe.Batch, "images in a step of the classifier")
	f.Float64Var(&run.Probe.Rate, "probe-lr", run.Probe.Rate, "first learning rate of the classifier, 0 for 10, or 1 of an mlp")
	f.Float64Var(&run.Probe.Decay, "probe-weight-decay", run.Probe.Decay, "weight decay of the classifier")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

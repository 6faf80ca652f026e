package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
)

func newCheckpoint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Look into checkpoints and files of weights",
		Long: `Look into checkpoints. A PATH is a checkpoint, a training output (its latest
checkpoint is meant), or a file of weights: safetensors or a .pth of PyTorch.`,
		Example: `  pixpro checkpoint show run/
  pixpro checkpoint show resnet50.pth
  pixpro checkpoint diff run/checkpoints/step-00001000 run/checkpoints/step-00002000`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCheckpointShow(), newCheckpointDiff())
	return cmd
}

func newCheckpointShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show PATH",
		Short: "Print parameters, shapes, norms, step and configuration",
		Long: `Print what a checkpoint or a file of weights holds: where its run stands, its
options, and each tensor's shape, norm and largest element.`,
		Example: `  pixpro checkpoint show run/
  pixpro checkpoint show resnet50.pth --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := train.ReadWeights(args[0])
			if err != nil {
				return err
			}
			d := train.Describe(w)
			text, err := descriptionText(d, w.Checkpoint)
			if err != nil {
				return err
			}
			return result(cmd, asJSON, d, text)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// descriptionText prints a description, and the options as YAML.
func descriptionText(d train.Description, c *checkpoint.Checkpoint) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", d.Path, d.Format)
	if s := d.State; s != nil {
		fmt.Fprintf(&b, "step %d of %d, %d epochs done", s.Step, s.Schedule.Steps, s.Epoch)
		if s.Step < s.Schedule.Steps {
			fmt.Fprintf(&b, "; goes on in epoch %d at sample %d with learning rate %.6g, key momentum %.6g",
				s.Position.Epoch+1, s.Position.Offset, s.Schedule.LearningRate, s.Schedule.KeyMomentum)
		}
		b.WriteByte('\n')
		fmt.Fprintf(&b, "written by pixpro %s, %s, on %s\n\n", s.Versions.PixPro, s.Versions.Go, s.Versions.Device)
		config, err := yaml.Marshal(c.Options)
		if err != nil {
			return "", err
		}
		b.Write(config)
	}
	b.WriteByte('\n')
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "tensor\ttype\tshape\tnorm\tlargest\t")
	for _, t := range d.Tensors {
		norm, largest, remark := "", "", ""
		if t.Norm != nil {
			norm, largest = fmt.Sprintf("%.6g", *t.Norm), fmt.Sprintf("%.4g", *t.Largest)
		}
		if t.NotFinite > 0 {
			remark = fmt.Sprintf("%d not finite", t.NotFinite)
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%s\t%s\t%s\n", t.Name, t.DType, t.Shape, norm, largest, remark)
	}
	if err := table.Flush(); err != nil {
		return "", err
	}
	b.WriteByte('\n')
	for _, part := range slices.Sorted(maps.Keys(d.Totals)) {
		fmt.Fprintf(&b, "%s: %d numbers\n", part, d.Totals[part])
	}
	return b.String(), nil
}

func newCheckpointDiff() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two checkpoints or files of weights",
		Long: `Compare two checkpoints or files of weights: configuration, state, and for each
tensor how far B is from A, as |B - A| / |A|. Tensors that are equal bit for bit
are only counted.`,
		Example: `  pixpro checkpoint diff run/checkpoints/step-00001000 run/
  pixpro checkpoint diff run/ backbone.safetensors`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := train.ReadWeights(args[0])
			if err != nil {
				return err
			}
			b, err := train.ReadWeights(args[1])
			if err != nil {
				return err
			}
			d := train.Compare(a, b)
			return result(cmd, asJSON, d, differenceText(d))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func differenceText(d train.Difference) string {
	var b strings.Builder
	for _, part := range []struct {
		title string
		lines []string
	}{
		{"configuration", d.Config}, {"state", d.State}, {"only in the first", d.OnlyA}, {"only in the second", d.OnlyB}, {"shapes", d.Shapes},
	} {
		for i, line := range part.lines {
			if i == 0 {
				fmt.Fprintf(&b, "%s\n", part.title)
			}
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	if len(d.Changed) > 0 {
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "tensor\t|B-A|/|A|\tlargest difference")
		for _, t := range d.Changed {
			if t.Relative != nil {
				fmt.Fprintf(table, "%s\t%.4g\t%.4g\n", t.Name, *t.Relative, *t.Largest)
			} else {
				fmt.Fprintf(table, "%s\tnot comparable\t\n", t.Name)
			}
		}
		table.Flush() // into memory
	}
	fmt.Fprintf(&b, "%d tensors are equal, %d differ\n", d.Equal, len(d.Changed)+len(d.Shapes)+len(d.OnlyA)+len(d.OnlyB))
	return b.String()
}

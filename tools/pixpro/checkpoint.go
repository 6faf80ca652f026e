package main

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
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
			d := describe(w)
			text, err := d.text()
			if err != nil {
				return err
			}
			return result(cmd, asJSON, d, text)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// description is what "checkpoint show" prints.
type description struct {
	Path    string            `json:"path"`
	Format  string            `json:"format"`
	State   *checkpoint.State `json:"state,omitempty"`
	Config  map[string]any    `json:"config,omitempty"`
	Tensors []tensorSummary   `json:"tensors"`
	Totals  map[string]int64  `json:"elements"` // by the first part of the name
	config  *options.Options
}

type tensorSummary struct {
	Name  string            `json:"name"`
	DType safetensors.DType `json:"dtype"`
	Shape []int             `json:"shape"`
	// Norm and Largest are left out where they are no finite numbers; NotFinite
	// counts the elements that are not.
	Norm      *float64 `json:"norm,omitempty"`
	Largest   *float64 `json:"largest,omitempty"`
	NotFinite int      `json:"not_finite,omitempty"`
}

func describe(w *train.Weights) description {
	d := description{Path: w.Path, Format: w.Format, Totals: map[string]int64{}}
	if c := w.Checkpoint; c != nil {
		d.State, d.config, d.Config = &c.State, &c.Options, settings(&c.Options)
	}
	for _, t := range w.Tensors {
		s := tensorSummary{Name: t.Name, DType: t.DType, Shape: t.Shape}
		values, err := t.Float32s()
		if err == nil { // others have integers
			var sum, largest float64
			for _, v := range values {
				x := math.Abs(float64(v))
				if math.IsNaN(x) || math.IsInf(x, 0) {
					s.NotFinite++
					continue
				}
				sum += x * x
				largest = max(largest, x)
			}
			norm := math.Sqrt(sum)
			s.Norm, s.Largest = &norm, &largest
			part, _, _ := strings.Cut(t.Name, ".")
			d.Totals[part] += int64(len(values))
		}
		d.Tensors = append(d.Tensors, s)
	}
	return d
}

func (d description) text() (string, error) {
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
		config, err := yaml.Marshal(d.config)
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
			d := compare(a, b)
			return result(cmd, asJSON, d, d.text())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// difference is what "checkpoint diff" prints.
type difference struct {
	Equal   int             `json:"equal"` // tensors that are the same bit for bit
	Config  []string        `json:"config"`
	State   []string        `json:"state"`
	OnlyA   []string        `json:"only_a"`
	OnlyB   []string        `json:"only_b"`
	Shapes  []string        `json:"shapes"`
	Changed []changedTensor `json:"changed"`
}

type changedTensor struct {
	Name string `json:"name"`
	// Relative is |B - A| / |A|, Largest the largest difference of an element;
	// both are left out where a number is not finite.
	Relative *float64 `json:"relative,omitempty"`
	Largest  *float64 `json:"largest,omitempty"`
}

func compare(a, b *train.Weights) difference {
	var d difference
	if a.Checkpoint != nil && b.Checkpoint != nil {
		d.Config = compareSettings(settings(&a.Checkpoint.Options), settings(&b.Checkpoint.Options))
		x, y := a.Checkpoint.State, b.Checkpoint.State
		d.State = compareSettings(stateSettings(x), stateSettings(y))
	}
	tensors := map[string]safetensors.Tensor{}
	for _, t := range b.Tensors {
		tensors[t.Name] = t
	}
	for _, t := range a.Tensors {
		u, ok := tensors[t.Name]
		delete(tensors, t.Name)
		switch {
		case !ok:
			d.OnlyA = append(d.OnlyA, t.Name)
		case !slices.Equal(t.Shape, u.Shape):
			d.Shapes = append(d.Shapes, fmt.Sprintf("%s: %v, then %v", t.Name, t.Shape, u.Shape))
		case t.DType == u.DType && slices.Equal(t.Data, u.Data):
			d.Equal++
		default:
			d.Changed = append(d.Changed, compareTensors(t, u))
		}
	}
	for _, t := range b.Tensors {
		if _, left := tensors[t.Name]; left {
			d.OnlyB = append(d.OnlyB, t.Name)
		}
	}
	return d
}

func compareTensors(a, b safetensors.Tensor) changedTensor {
	c := changedTensor{Name: a.Name}
	x, errX := a.Float32s()
	y, errY := b.Float32s()
	if errX != nil || errY != nil {
		return c // of integers: that they differ is all there is to say
	}
	var sum, of, largest float64
	for i := range x {
		diff := math.Abs(float64(y[i]) - float64(x[i]))
		sum += diff * diff
		of += float64(x[i]) * float64(x[i])
		largest = max(largest, diff)
	}
	relative := math.Sqrt(sum) / max(math.Sqrt(of), 1e-12)
	if !math.IsNaN(relative) && !math.IsInf(relative, 0) {
		c.Relative, c.Largest = &relative, &largest
	}
	return c
}

// settings are a configuration's fields under their names.
func settings(c *options.Options) map[string]any {
	fields := map[string]any{}
	data, err := yaml.Marshal(c)
	if err == nil {
		err = yaml.Unmarshal(data, &fields)
	}
	if err != nil {
		panic(err) // impossible: the fields are texts and numbers
	}
	return fields
}

func stateSettings(s checkpoint.State) map[string]any {
	return map[string]any{
		"step": s.Step, "epoch": s.Epoch, "position": fmt.Sprintf("epoch %d, offset %d", s.Position.Epoch, s.Position.Offset),
		"samples": s.Samples, "seed": s.Seed, "lr": s.Schedule.LearningRate, "key_momentum": s.Schedule.KeyMomentum,
		"pixpro": s.Versions.PixPro, "go": s.Versions.Go, "device": s.Versions.Device,
	}
}

func compareSettings(a, b map[string]any) []string {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !reflect.DeepEqual(a[name], b[name]) {
			list = append(list, fmt.Sprintf("%s: %v, then %v", name, a[name], b[name]))
		}
	}
	return list
}

func (d difference) text() string {
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

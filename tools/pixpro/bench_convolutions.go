package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/train"
)

// convolutionBench is what "pixpro bench convolutions" found.
type convolutionBench struct {
	Device       string                 `json:"device"`
	Precision    string                 `json:"precision"`
	Convolutions []benchmarkConvolution `json:"convolutions"`
}

// benchmarkConvolution is one geometry of a step's convolutions.
type benchmarkConvolution struct {
	Images   int       `json:"images"`
	Height   int       `json:"height"`
	Width    int       `json:"width"`
	In       int       `json:"in"`
	Out      int       `json:"out"`
	Kernel   int       `json:"kernel"`
	Stride   int       `json:"stride"`
	Padding  int       `json:"padding"`
	Dilation int       `json:"dilation"`
	Groups   int       `json:"groups"`
	Flops    int64     `json:"flops"` // of a call
	Forward  callBench `json:"forward"`
	Data     callBench `json:"data"`
	Weights  callBench `json:"weights"`
}

type callBench struct {
	Calls   int     `json:"calls"` // a step
	Seconds float64 `json:"seconds"`
}

func newBenchConvolutions() *cobra.Command {
	o := newStepFlags()
	cmd := &cobra.Command{
		Use:   "convolutions",
		Short: "Time the convolutions of a training step",
		Long: `Time the convolutions of training steps on views without meaning, those of one
geometry together: the convolution itself, the gradient of its input (data) and
that of its weights. On a card, the time is that of its events and has all that a
convolution launches.`,
		Example: `  pixpro bench convolutions --arch resnet50 --size 224 --batch 8
  pixpro bench convolutions --arch resnet50 --size 224 --batch 128 --device cuda --precision bf16 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			defer func() { err = asUsage(err) }()
			d, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			list, err := train.TimeConvolutions(d, o.Options, o.steps)
			if err != nil {
				return err
			}
			b := convolutionBench{Device: d.Name(), Precision: string(o.Precision)}
			for _, c := range list {
				b.Convolutions = append(b.Convolutions, benchmarkConvolution{
					Images: c.Images, Height: c.Height, Width: c.Width, In: c.In, Out: c.Out,
					Kernel: c.Kernel, Stride: c.Stride, Padding: c.Padding, Dilation: c.Dilation, Groups: c.Groups, Flops: c.Flops,
					Forward: callBench(c.Forward), Data: callBench(c.Data), Weights: callBench(c.Weights),
				})
			}
			return result(cmd, o.asJSON, b, b.table(fmt.Sprintf("%s, %d px, %d pairs a step, %s\n\n", o.Arch, o.Size, o.BatchSize, b.Device)))
		},
	}
	o.add(cmd.Flags(), 3, "steps that are timed, after one that is not")
	return cmd
}

// table has a row a geometry: how often and how long, in milliseconds a call and
// in GFLOP/s.
func (b *convolutionBench) table(head string) string {
	var s strings.Builder
	s.WriteString(head)
	fmt.Fprintf(&s, "%-17s %-11s %-12s %28s %28s %28s\n", "input", "channels", "window", "forward", "data", "weights")
	var total [3]float64
	for _, c := range b.Convolutions {
		window := fmt.Sprintf("%dx%d / %d", c.Kernel, c.Kernel, c.Stride)
		if c.Dilation > 1 {
			window += fmt.Sprintf(" d%d", c.Dilation)
		}
		fmt.Fprintf(&s, "%-17s %-11s %-12s", fmt.Sprintf("%d x %d x %d", c.Images, c.Height, c.Width), fmt.Sprintf("%d > %d", c.In, c.Out), window)
		for i, call := range []callBench{c.Forward, c.Data, c.Weights} {
			total[i] += float64(call.Calls) * call.Seconds
			cell := "-"
			if call.Calls > 0 {
				cell = fmt.Sprintf("%d x %.3f ms, %.0f GFLOP/s", call.Calls, 1e3*call.Seconds, float64(c.Flops)/call.Seconds/1e9)
			}
			fmt.Fprintf(&s, " %28s", cell)
		}
		s.WriteString("\n")
	}
	fmt.Fprintf(&s, "%-42s", "a step")
	for _, seconds := range total {
		fmt.Fprintf(&s, " %28s", fmt.Sprintf("%.3f ms", 1e3*seconds))
	}
	s.WriteString("\n")
	return s.String()
}

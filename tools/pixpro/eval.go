package main

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// evaluations are the commands of eval; the file of each adds its own.
var evaluations []func() *cobra.Command

func newEval() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Measure what features are worth at every pixel",
		Long: `Measure what an encoder's features are worth at every pixel, without a
detection framework. docs/evaluation.md says what each number means.`,
		Example: `  pixpro eval segment --checkpoint run/ --untrained --train images/ --masks masks/ --val val/ --val-masks val-masks/
  pixpro eval cluster --checkpoint run/ --val val/ --val-masks val-masks/
  pixpro eval knn --checkpoint run/ --train shards/ --val val-shards/
  pixpro eval match --checkpoint run/ --shards shards/ --pairs 500`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, evaluation := range evaluations {
		cmd.AddCommand(evaluation())
	}
	return cmd
}

// encoderFlags adds the flags of commands that compare encoders.
func encoderFlags(f *pflag.FlagSet, e *evaluate.Encoders) {
	weightsFlags(f, e)
	f.IntVar(&e.Size, "size", 0, "side in pixels that images are resized to (default: the first checkpoint's views, else 224)")
	f.Uint64Var(&e.Seed, "seed", 0, "seed of random weights and of all other choices")
}

// weightsFlags adds the flags that say which encoders, of which stage.
func weightsFlags(f *pflag.FlagSet, e *evaluate.Encoders) {
	*e = evaluate.DefaultEncoders()
	f.StringArrayVar(&e.Checkpoints, "checkpoint", nil, "checkpoint, training output (then its latest), or file of weights; may repeat")
	f.BoolVar(&e.Untrained, "untrained", false, "compare with random weights of the first checkpoint's architecture")
	f.StringArrayVar(&e.Inits, "init", nil, "compare with a file of weights, such as supervised ones; may repeat")
	f.StringVar((*string)(&e.Which), "which", string(e.Which), "encoder or key-encoder")
	f.StringVar(&e.Arch, "arch", e.Arch, "architecture of files of weights, and of --untrained without a checkpoint")
	f.StringVar(&e.Stem, "stem", e.Stem, "stem of these")
	f.Float64Var(&e.Width, "width", e.Width, "factor of the channels of these")
	f.IntVar(&e.Stage, "stage", e.Stage, "stage whose features are taken: 4 (the last) or 3, 2, 1")
	f.IntVar(&e.Threads, "threads", 0, "threads that compute (default: one a core); results are the same for any number")
	limitFlags(f, &e.Limits)
}

// evaluationBars shows the events of an evaluation: a bar for each part of it,
// and what happens in a pipeline in the log. finish ends the last bar.
func evaluationBars() (listen evaluate.Listener, finish func()) {
	var bar *progress
	what := ""
	finish = func() {
		if bar != nil {
			bar.finish()
		}
	}
	return func(e evaluate.Event) {
		p, ok := e.(evaluate.Progress)
		if !ok {
			logEvent(e)
			return
		}
		if bar == nil || p.What != what {
			finish()
			bar, what = newProgress(p.What, p.Total, false), p.What
		}
		bar.set(p.Done, p.Total, "")
	}, finish
}

// table lays rows out in columns; the first row is the head.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // a strings.Builder takes everything
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// percent writes a fraction as the field's tables do.
func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*v)
}

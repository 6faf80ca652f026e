// Command pixpro pre-trains image encoders on pixels: it shards a folder of
// images, draws and augments pairs of views, trains on them, and exports the
// encoder. Each subcommand has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/suggest"
	"github.com/seed-436d2970/pixpro/internal/version"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is an error of the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	cpu.KeepSpare()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// run executes a command line, writes what went wrong, and returns the exit
// code.
func run(ctx context.Context, args []string) int {
	code, message := execute(ctx, args)
	fmt.Fprint(os.Stderr, message)
	return code
}

// execute executes a command line and returns the exit code, and in words what
// went wrong.
func execute(ctx context.Context, args []string) (code int, message string) {
	root := newRoot()
	root.SetArgs(args)
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		started = true
		return setUpLog(cmd)
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitFine, ""
	}
	message = fmt.Sprintf("pixpro: %v\n", err)
	var usage usageError
	if !started || errors.As(err, &usage) {
		return exitUsage, message + fmt.Sprintf("Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return exitFailed, message
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pixpro",
		Short: "Pixel-level self-supervised pre-training of image encoders",
		Long: `pixpro pre-trains image encoders for detection and segmentation without labels,
by PixPro and PixContrast ("Propagate Yourself", CVPR 2021).

A folder of images becomes shards, shards become pairs of augmented views with
their coordinates, and an encoder learns that what lies at the same place in
both views belongs together.`,
		Example: `  pixpro demo
  pixpro shard --in photos/ --out shards/
  pixpro train --shards shards/ --output run/ --arch resnet50
  pixpro export --checkpoint run/ --out backbone.safetensors`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("log-level", zerolog.InfoLevel.String(), "least level that is logged: debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && len(unknown.GetSpecifiedName()) > 1 {
			var names []string
			cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
			err = fmt.Errorf("%w%s", err, suggest.For(unknown.GetSpecifiedName(), "--", names))
		}
		return err
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newShard(), newVerify(), newInspect(), newAugment(), newShow(), newTrain(), newExport(), newFeatures(), newEval(), newCheckpoint(), newBench(), newDemo(), newDevices(), newVersion())
	return root
}

// subcommand refuses what is no subcommand, of commands that are nothing else.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return usageError{fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], suggest.For(args[0], "", names))}
}

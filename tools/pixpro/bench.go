package main

import "github.com/spf13/cobra"

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of a part on this machine",
		Long:  `Measure the speed of a part on this machine, with all that it takes to compare it with something else.`,
		Example: `  pixpro bench augment --images photos/
  pixpro bench loader --shards shards/
  pixpro bench step --arch resnet50 --size 224 --batch 8
  pixpro bench convolutions --arch resnet50 --size 224 --batch 8`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchAugment(), newBenchLoader(), newBenchStep(), newBenchConvolutions())
	return cmd
}

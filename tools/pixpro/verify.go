package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards"
)

func newVerify() *cobra.Command {
	var (
		dir    string
		deep   bool
		limits decode.Limits
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify --shards DIR",
		Short: "Check shards for damage",
		Long: `Check the manifest, every shard's size and SHA-256, and every image's
checksum; name every fault. With --deep every image is decoded, too.

The exit code is 0 if all is well and 1 if there are faults.`,
		Example: `  pixpro verify --shards shards/
  pixpro verify --shards shards/ --deep --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			boundMemory()
			bar := newProgress("verifying", 0, true)
			var last shards.VerifyProgress
			report, err := shards.Verify(cmd.Context(), dir, shards.VerifyConfig{Deep: deep, Limits: limits, Listener: func(e shards.Event) {
				if p, ok := e.(shards.VerifyProgress); ok {
					last = p
					bar.set(p.Bytes, p.TotalBytes, "")
				}
			}})
			bar.finish()
			if errors.Is(err, context.Canceled) {
				return fmt.Errorf("interrupted after %d of %d MB, with %s so far", last.Bytes/1e6, last.TotalBytes/1e6, count(int64(last.Faults), "fault", "faults"))
			}
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, fault := range report.Faults {
				fmt.Fprintln(&text, fault)
			}
			faults := count(int64(len(report.Faults)), "fault", "faults")
			fmt.Fprintf(&text, "%s in %s, %s\n", count(report.Rows, "image", "images"), count(int64(report.Shards), "shard", "shards"), faults)
			if err := result(cmd, asJSON, report, text.String()); err != nil {
				return err
			}
			if len(report.Faults) > 0 {
				return fmt.Errorf("%s has %s: shard the images again, or restore the files named above", dir, faults)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "shards", "", "folder of shards")
	cmd.Flags().BoolVar(&deep, "deep", false, "decode every image, too")
	limitFlags(cmd.Flags(), &limits)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

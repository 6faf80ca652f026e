package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/shards"
)

func newVerify() *cobra.Command {
	var (
		dir    string
		deep   bool
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
			bar := newProgress("verifying", 0, true)
			report, err := shards.Verify(cmd.Context(), dir, shards.VerifyConfig{Deep: deep, Progress: func(p shards.VerifyProgress) {
				bar.set(p.Bytes, p.TotalBytes, "")
			}})
			bar.finish()
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, fault := range report.Faults {
				fmt.Fprintln(&text, fault)
			}
			fmt.Fprintf(&text, "%d images in %d shards, %d faults\n", report.Rows, report.Shards, len(report.Faults))
			if err := result(cmd, asJSON, report, text.String()); err != nil {
				return err
			}
			if n := len(report.Faults); n > 0 {
				return fmt.Errorf("%s has %d faults: shard the images again, or restore the files named above", dir, n)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "shards", "", "folder of shards")
	cmd.Flags().BoolVar(&deep, "deep", false, "decode every image, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

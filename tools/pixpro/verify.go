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
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "verify --shards DIR",
		Short:   "Check shards for damage",
		Long:    `Check the manifest, every shard's size and SHA-256, and every image's checksum; name every fault.`,
		Example: `  pixpro verify --shards shards/`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			bar := newProgress("verifying", 0, true)
			report, err := shards.Verify(cmd.Context(), dir, func(p shards.VerifyProgress) {
				bar.set(p.Bytes, p.TotalBytes, "")
			})
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

package main

import (
	"context"
	"fmt"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/shards"
)

func newShard() *cobra.Command {
	var (
		cfg    shards.WriteConfig
		size   = byteSize(256 << 20)
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "shard --in PATH --out DIR",
		Short: "Pack a folder of images into shards",
		Long: `Pack a folder of images into Arrow IPC files that can be read at any place
without unpacking, with a manifest of their checksums.

The folder below --in that an image lies in is its class; images beside such
folders have none. Images are stored as they are. Files that do not parse as
images are listed in rejected.jsonl.

An interrupted run is finished by the same command with --resume.`,
		Example: `  pixpro shard --in imagenet/train --out shards/
  pixpro shard --in imagenet/train --out shards/ --shard-size 1GiB --resume`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "in", "out"); err != nil {
				return err
			}
			cfg.ShardSize = int64(size)
			return shard(cmd.Context(), cmd, cfg, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.In, "in", "", "folder of class folders of images")
	f.StringVar(&cfg.Out, "out", "", "folder for the shards")
	f.Var(&size, "shard-size", "image bytes in a shard, at most")
	f.IntVar(&cfg.Workers, "workers", 0, "files read at once (default: one a core)")
	f.BoolVar(&cfg.Resume, "resume", false, "finish what an interrupted run began")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func shard(ctx context.Context, cmd *cobra.Command, cfg shards.WriteConfig, asJSON bool) error {
	bar := newProgress("sharding", 0, false)
	cfg.Progress = func(p shards.WriteProgress) {
		bar.set(p.Files, p.TotalFiles, fmt.Sprintf(" (%d MB)", p.Bytes/1e6))
	}
	manifest, report, err := shards.Write(ctx, cfg)
	bar.finish()
	if err != nil {
		return err
	}
	if report.Rejected > 0 {
		log.Warn().Int64("rejected", report.Rejected).Msg("some files are no readable images: see rejected.jsonl in the output")
	}
	return result(cmd, asJSON, report, fmt.Sprintf("%d images of %d classes in %d shards at %s (%d rejected, %d other files skipped)\n",
		report.Rows, len(manifest.Classes), report.Shards, cfg.Out, report.Rejected, report.Skipped))
}

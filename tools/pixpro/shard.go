package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rs/zerolog/log"
	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

func newShard() *cobra.Command {
	var (
		cfg    shards.WriteConfig
		inputs []string
		size   = byteSize(256 << 20)
		maxBad = share(0.01)
		limits decode.Limits
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "shard --in PATH --out DIR",
		Short: "Pack images from folders and archives into shards",
		Long: `Pack images into Arrow IPC files that can be read at any place without
unpacking, with a manifest of their checksums.

--in takes, and tells apart by content:
` + ingest.Help() + `Archives may be compressed by gzip or zstd; they are decompressed into a
temporary file in --out first.

--labels gives the classes of images that lie in no folders. Its lines are
NAME<tab>LABEL, or a number from 1 for each image in the order of their names,
as in ILSVRC2012_validation_ground_truth.txt. Images without a label are kept
without a class; a warning counts them.

Images are stored as they are, unless --max-side shrinks them. Files named like
images that are none are listed in rejected.jsonl with the reason, and if they
are more than --max-bad of all, the run stops.

An interrupted run is finished by the same command with --resume. With other
inputs or settings than before, --resume refuses.`,
		Example: `  pixpro shard --in imagenet/train --out shards/
  pixpro shard --in ILSVRC2012_img_train.tar --out shards/ --order shuffle --seed 1
  pixpro shard --in ILSVRC2012_img_val.tar --labels val_map.txt --out val-shards/
  pixpro shard --in part-0.tar.zst --in part-1.tar.zst --out shards/ --check decode
  pixpro shard --in photos.zip --out shards/ --max-side 512 --shard-size 1GiB --resume`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "out"); err != nil {
				return err
			}
			if len(inputs) == 0 {
				return usageError{errors.New("--in is needed: a folder or an archive of images")}
			}
			cfg.In, cfg.MoreIn = inputs[0], inputs[1:]
			cfg.ShardSize = int64(size)
			cfg.MaxBad, cfg.Limits = float64(maxBad), limits
			if maxBad == 0 {
				cfg.MaxBad = -1 // 0 is the default there
			}
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			return shard(cmd.Context(), cmd, cfg, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&inputs, "in", nil, "folder, tar, zip, WebDataset or list of images; may be repeated")
	f.StringVar(&cfg.Format, "format", "", "what --in is: "+strings.Join(ingest.Formats(), ", ")+" (default: found by content)")
	f.StringVar(&cfg.Labels, "labels", "", "file with the labels of the images")
	f.StringVar(&cfg.Out, "out", "", "folder for the shards")
	f.Var(&size, "shard-size", "image bytes in a shard, at most")
	f.StringVar((*string)(&cfg.Order), "order", string(shards.OrderPath), "path: sorted; shuffle: mixed by --seed")
	f.Uint64Var(&cfg.Seed, "seed", 0, "seed of --order shuffle")
	f.IntVar(&cfg.MaxSide, "max-side", 0, "shrink longer sides to so many pixels, as JPEGs of quality 90 (default: images stay as they came)")
	f.StringVar((*string)(&cfg.Check), "check", string(shards.CheckHeader), "header, or decode: every pixel")
	limitFlags(f, &limits)
	f.Var(&maxBad, "max-bad", "share of bad images that stops the run, such as 0.02 or 2%")
	f.IntVar(&cfg.Workers, "workers", 0, "files read at once (default: one a core)")
	f.BoolVar(&cfg.Resume, "resume", false, "finish what an interrupted run began")
	f.DurationVar(&cfg.Wait, "wait", 0, "time to wait for another writer of --out to end, such as 5m; otherwise it is an error")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// share is a flag such as 0.02 or 2%.
type share float64

func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return errors.New("use a share such as 0.02 or 2%")
	}
	*s = share(f)
	return nil
}

func (s *share) String() string { return strconv.FormatFloat(100*float64(*s), 'g', -1, 64) + "%" }

// Type implements pflag.Value.
func (s *share) Type() string { return "share" }

func shard(ctx context.Context, cmd *cobra.Command, cfg shards.WriteConfig, asJSON bool) error {
	bar := newProgress("sharding", 0, false)
	var last shards.WriteProgress
	cfg.Listener = func(e shards.Event) {
		p, ok := e.(shards.WriteProgress)
		if !ok {
			logEvent(e)
			return
		}
		if last.Files == 0 { // the list of files, which can take more, is there now
			boundMemory()
		}
		last = p
		bar.set(p.Files, p.TotalFiles, fmt.Sprintf(" (%d MB)", p.Bytes/1e6))
	}
	manifest, report, err := shards.Write(ctx, cfg)
	bar.finish()
	if errors.Is(err, context.Canceled) {
		return interruptedShard(cfg.Out, last, errors.Is(err, shards.ErrResumable))
	}
	if err != nil {
		return err
	}
	if report.Rejected > 0 {
		log.Warn().Int64("rejected", report.Rejected).Msg("some files are no readable images: see rejected.jsonl in the output")
	}
	if report.Unlabelled > 0 && len(manifest.Classes) > 0 {
		log.Warn().Int64("unlabelled", report.Unlabelled).Msg("some images have no class")
	}
	if report.UnusedLabels > 0 {
		log.Warn().Int64("unused_labels", report.UnusedLabels).Msg("some labels are for names that the input does not have")
	}
	return result(cmd, asJSON, report, fmt.Sprintf("%s of %s in %s at %s (%d rejected, %s skipped)\n",
		count(report.Rows, "image", "images"), count(int64(len(manifest.Classes)), "class", "classes"), count(int64(report.Shards), "shard", "shards"),
		cfg.Out, report.Rejected, count(report.Skipped, "other file", "other files")))
}

// interruptedShard says how far a run came that was told to stop.
func interruptedShard(out string, done shards.WriteProgress, resumable bool) error {
	when := "while the input was listed"
	if done.TotalFiles > 0 {
		when = fmt.Sprintf("after %d of %s", done.Files, count(done.TotalFiles, "file", "files"))
	}
	if !resumable {
		return fmt.Errorf("interrupted %s, before a shard was finished: nothing is kept, run the same command again", when)
	}
	return fmt.Errorf("interrupted %s: finished shards are kept in %s, and the same command with --resume goes on from there", when, out)
}

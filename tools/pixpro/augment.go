package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-436d2970/pixpro/pipeline"
)

func newAugment() *cobra.Command {
	var (
		views  viewFlags
		cfg    pipeline.Config
		out    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "augment --shards DIR",
		Short: "Stream pairs of augmented views as Arrow record batches",
		Long: `Draw two augmented views of every image and write them as Arrow record batches:
pixels (uint8, 3 x size x size), the coordinates of both crops, and all
parameters that were drawn. The bytes depend on the seed, not on the machine.

The output is an Arrow IPC stream, or an Arrow file where --out ends in .arrow.`,
		Example: `  pixpro augment --shards shards/ --out pairs.arrow --limit 1000
  pixpro augment --shards shards/ --epochs 10 --batch 128 | python train.py
  pixpro augment --shards shards/ --rank 1 --world 4 | python train.py`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			if out == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
				return usageError{errors.New("the stream is binary: redirect standard output, or give a file with --out")}
			}
			if out == "-" && asJSON {
				return usageError{errors.New("--json prints to standard output, where the stream goes: give a file with --out")}
			}
			full, err := views.open(cfg)
			if err != nil {
				return err
			}
			defer full.Dataset.Close()
			pairs, batches, err := stream(cmd.Context(), full, out)
			if err != nil || out == "-" {
				return err
			}
			return result(cmd, asJSON, map[string]any{"pairs": pairs, "batches": batches, "out": out},
				fmt.Sprintf("%d pairs in %d record batches at %s\n", pairs, batches, out))
		},
	}
	f := cmd.Flags()
	views.add(f)
	f.StringVar(&out, "out", "-", "file, or - for standard output")
	f.IntVar(&cfg.BatchSize, "batch", 64, "pairs in a record batch")
	f.IntVar(&cfg.Epochs, "epochs", 1, "times that every image is drawn, 0 for without end")
	f.Int64Var(&cfg.Limit, "limit", 0, "pairs at most, 0 for no limit")
	f.IntVar(&cfg.Rank, "rank", 0, "part of every epoch that this process takes")
	f.IntVar(&cfg.World, "world", 1, "parts that every epoch is split into")
	f.BoolVar(&cfg.KeepLast, "keep-last", true, "keep an epoch's last batch where it is not full")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON (with --out FILE)")
	return cmd
}

// stream writes a pipeline's record batches to a file, or to standard output
// until its reader goes away.
func stream(ctx context.Context, cfg pipeline.Config, out string) (pairs, batches int64, err error) {
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer p.Close()
	total := cfg.Limit
	if whole := p.PairsPerEpoch() * int64(cfg.Epochs); total == 0 || (whole > 0 && whole < total) {
		total = whole
	}
	bar := newProgress("augmenting", total, false)
	defer bar.finish()
	write := func(w io.Writer) error {
		rec, err := newRecordWriter(w, p, strings.HasSuffix(out, ".arrow"))
		if err != nil {
			return err
		}
		for p.Next() {
			if err := rec.Write(p.Record()); err != nil {
				return err
			}
			pairs += p.Record().NumRows()
			batches++
			bar.set(pairs, max(total, pairs), "")
		}
		return errors.Join(p.Err(), rec.Close())
	}
	if out != "-" {
		return pairs, batches, writeFile(out, write)
	}
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away shows as an error of the write
	buffered := bufio.NewWriterSize(os.Stdout, 1<<20)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if errors.Is(err, syscall.EPIPE) {
		err = nil
	}
	return pairs, batches, err
}

type recordWriter interface {
	Write(rec arrow.Record) error
	Close() error
}

// newRecordWriter writes an Arrow stream or file.
func newRecordWriter(w io.Writer, p *pipeline.Pipeline, file bool) (recordWriter, error) {
	if file {
		return ipc.NewFileWriter(&positionWriter{w: w}, ipc.WithSchema(p.Schema()))
	}
	return ipc.NewWriter(w, ipc.WithSchema(p.Schema())), nil
}

// positionWriter lets Arrow ask for the position, all that it seeks for.
type positionWriter struct {
	w  io.Writer
	at int64
}

func (p *positionWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.at += int64(n)
	return n, err
}

// Seek implements io.Seeker as far as it is needed.
func (p *positionWriter) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.ErrUnsupported
	}
	return p.at, nil
}

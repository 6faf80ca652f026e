package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/pipeline"
)

// streamed is what augment wrote.
type streamed struct {
	Pairs    int64             `json:"pairs"`
	Batches  int64             `json:"batches"`
	Bad      int64             `json:"bad"`
	Position pipeline.Position `json:"position"` // for --start
	Out      string            `json:"out"`
}

// stream writes a pipeline's record batches to a file, or to standard output
// until its reader goes away.
func stream(ctx context.Context, cfg pipeline.Config, out string, options ...ipc.Option) (done streamed, err error) {
	toPipe := out == "-"
	if toPipe {
		signal.Ignore(syscall.SIGPIPE) // a reader that goes away shows as an error of the write
		var end func()
		ctx, end = whileRead(ctx, os.Stdout)
		defer end()
	}
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return done, err
	}
	defer p.Close()
	done.Out = out
	total := streamLength(cfg, p)
	bar := newProgress("augmenting", total, false)
	defer bar.finish()
	write := func(w io.Writer) error {
		rec, err := newRecordWriter(w, strings.HasSuffix(out, ".arrow"), append(options, ipc.WithSchema(p.Schema()))...)
		if err != nil {
			return err
		}
		for p.Next() {
			if err := rec.Write(p.Record()); err != nil {
				return err
			}
			done.Pairs += p.Record().NumRows()
			done.Batches++
			done.Position = p.Position()
			bar.set(done.Pairs, max(total, done.Pairs), "")
		}
		done.Bad = p.Stats().Bad
		return errors.Join(p.Err(), rec.Close())
	}
	if !toPipe {
		return done, atomicfile.WriteTo(out, write)
	}
	buffered := bufio.NewWriterSize(os.Stdout, 1<<20)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if errors.Is(err, syscall.EPIPE) || context.Cause(ctx) == syscall.EPIPE {
		err = nil
	}
	return done, err
}

// streamLength is the number of pairs to expect, 0 if there is no end.
func streamLength(cfg pipeline.Config, p *pipeline.Pipeline) int64 {
	whole := p.PairsPerEpoch()*(int64(cfg.Epochs)-cfg.Start.Epoch) - cfg.Start.Offset
	switch {
	case cfg.Epochs == 0:
		return cfg.Limit
	case cfg.Limit > 0:
		return max(min(cfg.Limit, whole), 0)
	}
	return max(whole, 0)
}

type recordWriter interface {
	Write(rec arrow.Record) error
	Close() error
}

// newRecordWriter writes an Arrow stream or file.
func newRecordWriter(w io.Writer, file bool, options ...ipc.Option) (recordWriter, error) {
	if file {
		return ipc.NewFileWriter(&positionWriter{w: w}, options...)
	}
	return ipc.NewWriter(w, options...), nil
}

// compressionOptions are Arrow's for the compression of that name.
func compressionOptions(name string) ([]ipc.Option, error) {
	switch name {
	case "none":
		return nil, nil
	case "zstd":
		return []ipc.Option{ipc.WithZstd()}, nil
	case "lz4":
		return []ipc.Option{ipc.WithLZ4()}, nil
	}
	return nil, usageError{fmt.Errorf("--compression %s: use none, zstd or lz4", name)}
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

// positionFlag is a flag such as 2:640, an epoch and an offset, or 2:640:3 with
// the number of bad images before the offset.
type positionFlag pipeline.Position

func (p *positionFlag) Set(s string) error {
	var at [3]int64
	parts := strings.Split(s, ":")
	ok := len(parts) == 2 || len(parts) == 3
	for i := 0; ok && i < len(parts); i++ {
		var err error
		at[i], err = strconv.ParseInt(parts[i], 10, 64)
		ok = err == nil
	}
	if !ok {
		return errors.New("use an epoch and an offset, such as 2:640")
	}
	*p = positionFlag{Epoch: at[0], Offset: at[1], Bad: at[2]}
	return nil
}

func (p *positionFlag) String() string {
	if p.Bad > 0 {
		return fmt.Sprintf("%d:%d:%d", p.Epoch, p.Offset, p.Bad)
	}
	return fmt.Sprintf("%d:%d", p.Epoch, p.Offset)
}

// Type implements pflag.Value.
func (p *positionFlag) Type() string { return "epoch:offset" }

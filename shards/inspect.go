package shards

import (
	"context"
	"math/bits"
	"runtime/debug"
)

// Summary is what a dataset holds, by the columns of its shards.
type Summary struct {
	Rows       int64            `json:"rows"`
	Shards     int              `json:"shards"`
	Bytes      int64            `json:"bytes"`       // of the shards
	ImageBytes int64            `json:"image_bytes"` // of them, encoded images
	Order      Order            `json:"order"`
	Seed       uint64           `json:"seed,omitempty"`
	MaxSide    int              `json:"max_side,omitempty"`
	Classes    []ClassCount     `json:"classes"`
	Unlabelled int64            `json:"unlabelled"`
	Formats    map[string]int64 `json:"formats"`
	Sides      []Bin            `json:"sides"` // longer sides, in pixels
	Files      []Bin            `json:"files"` // encoded sizes, in bytes
	Schema     []Column         `json:"schema"`
}

// ClassCount is a class and its images.
type ClassCount struct {
	Label int    `json:"label"`
	Name  string `json:"name"`
	Rows  int64  `json:"rows"`
}

// Bin counts the rows whose value is at least From and below To.
type Bin struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Rows int64 `json:"rows"`
}

// Column is a column of a shard.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Summarize reads all columns but the images and counts. Damaged data is a
// *CorruptError; images are not read.
func (d *Dataset) Summarize(ctx context.Context) (Summary, error) {
	m := d.manifest
	s := Summary{
		Rows: m.Rows, Shards: len(m.Shards), ImageBytes: m.ImageBytes,
		Order: m.Order, Seed: m.Seed, MaxSide: m.MaxSide,
		Formats: map[string]int64{},
	}
	if s.Order == "" {
		s.Order = OrderPath
	}
	for _, f := range shardSchema.Fields() {
		s.Schema = append(s.Schema, Column{f.Name, f.Type.String()})
	}
	for label, name := range m.Classes {
		s.Classes = append(s.Classes, ClassCount{Label: label, Name: name})
	}
	var sides, files histogram
	for _, shard := range m.Shards {
		s.Bytes += shard.Bytes
	}
	err := d.Scan(ctx, func(r Sample) {
		if r.Label < 0 {
			s.Unlabelled++
		} else {
			s.Classes[r.Label].Rows++
		}
		s.Formats[r.Format]++
		sides.add(int64(max(r.Width, r.Height)))
		files.add(int64(len(r.Image)))
	})
	if err != nil {
		return Summary{}, err
	}
	s.Sides, s.Files = sides.bins(), files.bins()
	return s, nil
}

// Scan calls visit for every sample in the order of the rows. It reads all
// columns but the images: these lie in the memory map, valid until visit returns,
// and are not checked against their checksums. Index is not set. Damaged data is
// a *CorruptError, a shard that was written to a *ChangedError, one that the disk
// does not give of class ErrUnreadable.
func (d *Dataset) Scan(ctx context.Context, visit func(s Sample)) error {
	for _, shard := range d.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := shard.scan(visit); err != nil {
			return err
		}
		forget(shard.data, 0, len(shard.data))
	}
	return nil
}

// scan visits all rows; it does not look at their images.
func (s *shard) scan(visit func(r Sample)) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := s.ready(); err != nil {
		return err
	}
	for n := range s.file.blocks {
		row := int64(0)
		err := guard(func() error {
			b, err := s.file.batch(n)
			if err != nil {
				return err
			}
			for ; row < b.rows; row++ {
				r, err := b.head(int(row), s.file.formats, s.classes)
				if err != nil {
					return err
				}
				visit(r)
			}
			return nil
		})
		if err != nil {
			return s.fault(s.file.starts[n]+row, "", err)
		}
	}
	return nil
}

// histogram counts values by their number of bits: bin n is from 2^(n-1) to 2^n.
type histogram [65]int64

func (h *histogram) add(v int64) { h[bits.Len64(uint64(v))]++ }

// bins are the bins from the first to the last that is not empty.
func (h *histogram) bins() []Bin {
	var out []Bin
	for n, rows := range *h {
		if rows > 0 || len(out) > 0 {
			bin := Bin{Rows: rows}
			if n > 0 {
				bin.From, bin.To = 1<<(n-1), 1<<n
			} else {
				bin.To = 1
			}
			out = append(out, bin)
		}
	}
	for len(out) > 0 && out[len(out)-1].Rows == 0 {
		out = out[:len(out)-1]
	}
	return out
}

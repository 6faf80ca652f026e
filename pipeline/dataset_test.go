package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/shards"
)

// memoryDataset is a Dataset without shards; rows in bad are corrupt.
type memoryDataset struct {
	images  [][]byte
	bad     []int64
	forgot  atomic.Int64
	fetched atomic.Int64
}

func (d *memoryDataset) Len() int64 { return int64(len(d.images)) }

func (d *memoryDataset) Sample(row int64) (shards.Sample, error) {
	if slices.Contains(d.bad, row) {
		return shards.Sample{}, fmt.Errorf("memory: %w", &shards.CorruptError{Shard: "memory", Row: row, Key: fmt.Sprint(row), Reason: "made so"})
	}
	return shards.Sample{Key: fmt.Sprint(row), Label: -1, Format: "jpeg", Width: 12, Height: 10, Image: d.images[row]}, nil
}

func (d *memoryDataset) Prefetch(int64)       { d.fetched.Add(1) }
func (d *memoryDataset) Forget(shards.Sample) { d.forgot.Add(1) }
func (d *memoryDataset) Digest() string       { return "memory" }

// TestAnyDataset streams from a dataset that is not in shards, in every order.
func TestAnyDataset(t *testing.T) {
	recipe, err := augment.LookupRecipe("none")
	if err != nil {
		t.Fatal(err)
	}
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleNone, "window:3"} {
		d := &memoryDataset{bad: []int64{2}}
		for i := range 9 {
			d.images = append(d.images, picture(t, 12, 10, uint64(2*i)))
		}
		var bad []BadSample
		p, err := Open(context.Background(), Config{
			Dataset: d, Recipe: recipe, Size: 8, BatchSize: 3, Epochs: 1, Shuffle: shuffle, MaxBad: 1,
			Listener: func(e Event) {
				if e, ok := e.(BadSample); ok {
					bad = append(bad, e)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var rows []int64
		for p.Next() {
			b, err := NewBatch(p.Record())
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, b.Index()...)
		}
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		slices.Sort(rows)
		if want := []int64{0, 1, 3, 4, 5, 6, 7, 8}; !slices.Equal(rows, want) {
			t.Errorf("shuffle %s gives rows %v, want %v", shuffle, rows, want)
		}
		if len(bad) != 1 || bad[0].Index != 2 || bad[0].Key != "2" {
			t.Errorf("shuffle %s: bad samples are %v", shuffle, bad)
		}
		if p.Dataset() != "memory" || d.forgot.Load() != 8 || d.fetched.Load() != 9 {
			t.Errorf("shuffle %s: digest %s, %d images forgotten, %d fetched", shuffle, p.Dataset(), d.forgot.Load(), d.fetched.Load())
		}
	}
}

// TestViewsOfSchemas reads what a consumer must know from the schema alone.
func TestViewsOfSchemas(t *testing.T) {
	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []DType{Uint8, Float32} {
		schema, err := Schema(33, dtype, recipe, 1)
		if err != nil {
			t.Fatal(err)
		}
		if size, got, err := ViewsOf(schema); err != nil || size != 33 || got != dtype {
			t.Errorf("views of %s are %d, %s, %v", dtype, size, got, err)
		}
		if n, err := NormalizationOf(schema); err != nil || n != ImageNet() {
			t.Errorf("the normalization is %+v, %v", n, err)
		}
		with := func(key, value string) *arrow.Schema {
			m := schema.Metadata().ToMap()
			delete(m, key)
			if value != "" {
				m[key] = value
			}
			metadata := arrow.MetadataFrom(m)
			return arrow.NewSchema(schema.Fields(), &metadata)
		}
		for _, bad := range []*arrow.Schema{with(MetaMean, ""), with(MetaStd, "[1,2]"), with(MetaStd, "[1,0,1]"), with(MetaMean, "{}")} {
			if n, err := NormalizationOf(bad); err == nil {
				t.Errorf("metadata %v give %+v", bad.Metadata(), n)
			}
		}
	}
	schema, err := Schema(4, Uint8, recipe, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, view := range map[string]arrow.DataType{
		"no list":      arrow.PrimitiveTypes.Uint8,
		"no square":    arrow.FixedSizeListOf(47, arrow.PrimitiveTypes.Uint8),
		"other values": arrow.FixedSizeListOf(48, arrow.PrimitiveTypes.Int16),
	} {
		fields := slices.Clone(schema.Fields())
		fields[colView].Type = view
		if _, _, err := ViewsOf(arrow.NewSchema(fields, nil)); err == nil {
			t.Errorf("views of %s were taken", name)
		}
	}
	if _, _, err := ViewsOf(arrow.NewSchema(nil, nil)); err == nil {
		t.Error("an empty schema has views")
	}
}

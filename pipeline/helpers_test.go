package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/shards"
)

// picture is a seeded JPEG or, for odd seeds, PNG of w x h pixels.
func picture(tb testing.TB, w, h int, seed uint64) []byte {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(7 * x), uint8(5 * y), uint8(rng.IntN(256)), 255})
		}
	}
	var buf bytes.Buffer
	var err error
	if seed%2 == 1 {
		err = png.Encode(&buf, img)
	} else {
		err = jpeg.Encode(&buf, img, nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// dataset has n small pictures of two classes. Those of the rows in cut lack
// their last bytes, which only decoding notices.
func dataset(tb testing.TB, n int, cut ...int) *shards.Dataset {
	tb.Helper()
	in, out := tb.TempDir(), filepath.Join(tb.TempDir(), "shards")
	for i := range n {
		data := picture(tb, 12+i%7, 10+i%5, uint64(i))
		for _, c := range cut {
			if c == i {
				data = data[:len(data)-16]
			}
		}
		dir := filepath.Join(in, fmt.Sprintf("class%d", 2*i/n))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.jpg", i)), data, 0o666); err != nil {
			tb.Fatal(err)
		}
	}
	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: in, Out: out, ShardSize: 20 << 10}); err != nil {
		tb.Fatal(err)
	}
	d, err := shards.Open(out)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

func recipe(tb testing.TB) augment.Recipe {
	tb.Helper()
	r, err := augment.LookupRecipe("byol")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// config makes batches of 4 pairs of 8 x 8 pixels.
func config(tb testing.TB, d *shards.Dataset) Config {
	return Config{Dataset: d, Recipe: recipe(tb), Size: 8, BatchSize: 4, Seed: 7, Epochs: 1}
}

// checked opens a pipeline of which the test's end checks that nothing is
// left: no goroutine and no memory.
func checked(tb testing.TB, ctx context.Context, cfg Config) *Pipeline {
	tb.Helper()
	before := runtime.NumGoroutine()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	cfg.Allocator = mem
	p, err := Open(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		tb.Helper()
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
		if mem.CurrentAlloc() != 0 {
			tb.Errorf("%d bytes of records are left", mem.CurrentAlloc())
		}
		wantGoroutines(tb, before)
	})
	return p
}

// wantGoroutines gives goroutines that are at their end the time to get there.
func wantGoroutines(tb testing.TB, n int) {
	tb.Helper()
	for range 1_000_000 {
		if runtime.NumGoroutine() <= n {
			return
		}
		runtime.Gosched()
	}
	stacks := make([]byte, 1<<16)
	tb.Errorf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), n, stacks[:runtime.Stack(stacks, true)])
}

// row is one pair, copied out of its record.
type row struct {
	index  int64
	key    string
	label  int32
	digest string // of views, coordinates and parameters
}

func rowsOf(tb testing.TB, rec arrow.Record) []row {
	tb.Helper()
	b, err := NewBatch(rec)
	if err != nil {
		tb.Fatal(err)
	}
	var out []row
	pixels := 3 * b.Size() * b.Size()
	for i := range b.Len() {
		h := sha256.New()
		for v := range 2 {
			h.Write(b.Views(v)[i*pixels : (i+1)*pixels])
			fmt.Fprint(h, b.Coords(v)[4*i:4*i+4], b.Params(v, i))
		}
		out = append(out, row{b.Index()[i], strings.Clone(b.Key(i)), b.Labels()[i], hex.EncodeToString(h.Sum(nil)[:8])})
	}
	return out
}

// batchesOf reads a pipeline to its end.
func batchesOf(tb testing.TB, p *Pipeline) [][]row {
	tb.Helper()
	var out [][]row
	for p.Next() {
		out = append(out, rowsOf(tb, p.Record()))
	}
	if p.Err() != nil {
		tb.Fatal(p.Err())
	}
	return out
}

func flat(batches [][]row) []row {
	var out []row
	for _, b := range batches {
		out = append(out, b...)
	}
	return out
}

// digest is a SHA-256 of all that is in the rows, however they were batched.
func digest(rows []row) string {
	h := sha256.New()
	for _, r := range rows {
		fmt.Fprintln(h, r.index, r.key, r.label, r.digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// streamDigest is the SHA-256 of the pipeline as an Arrow IPC stream.
func streamDigest(tb testing.TB, p *Pipeline) string {
	tb.Helper()
	h := sha256.New()
	w := ipc.NewWriter(h, ipc.WithSchema(p.Schema()))
	for p.Next() {
		if err := w.Write(p.Record()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := p.Err(); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

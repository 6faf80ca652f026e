//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/pipeline"
)

// smallShards are the shards of a few generated images.
func smallShards(t *testing.T, images int) string {
	t.Helper()
	dir := t.TempDir()
	if err := synth.Generate(t.Context(), filepath.Join(dir, "images"), synth.Options{Images: images, MinSide: 40, MaxSide: 60}); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "shard", "--in", filepath.Join(dir, "images"), "--out", filepath.Join(dir, "shards"))
	return filepath.Join(dir, "shards")
}

// readPairs reads a stream and hashes its rows, however they are batched.
func readPairs(t *testing.T, files ...string) (pairs int, digest string) {
	t.Helper()
	h := sha256.New()
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := ipc.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		for r.Next() {
			b, err := pipeline.NewBatch(r.Record())
			if err != nil {
				t.Fatal(err)
			}
			n := 3 * b.Size() * b.Size()
			for i := range b.Len() {
				fmt.Fprintln(h, b.Index()[i], b.Key(i), b.Labels()[i])
				for v := range 2 {
					fmt.Fprintln(h, b.Coords(v)[4*i:4*i+4], b.Params(v, i))
					if b.Views(v) != nil {
						h.Write(b.Views(v)[i*n : (i+1)*n])
					} else {
						h.Write(arrow.Float32Traits.CastToBytes(b.Floats(v)[i*n : (i+1)*n]))
					}
				}
			}
			pairs += b.Len()
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return pairs, fmt.Sprintf("%x", h.Sum(nil))
}

func TestAugmentOptionsOfTheStream(t *testing.T) {
	shards, dir := smallShards(t, 14), t.TempDir()
	write := func(name string, args ...string) string {
		t.Helper()
		out := filepath.Join(dir, name)
		mustRun(t, append([]string{"augment", "--shards", shards, "--out", out, "--size", "16", "--batch", "4", "--seed", "3"}, args...)...)
		return out
	}
	pairs, want := readPairs(t, write("plain"))
	if pairs != 14 {
		t.Errorf("%d pairs of 14 images", pairs)
	}
	for _, compression := range []string{"zstd", "lz4"} {
		one, two := write("one", "--compression", compression, "--workers", "1"), write("two", "--compression", compression, "--workers", "2")
		if _, got := readPairs(t, one); got != want {
			t.Errorf("%s gives other pairs", compression)
		}
		a, err := os.ReadFile(one)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(two)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s gives other bytes with other workers", compression)
		}
	}
	if pairs, got := readPairs(t, write("floats", "--dtype", "float32")); pairs != 14 || got == want {
		t.Errorf("%d float32 pairs, the same as uint8: %t", pairs, got == want)
	}
	if pairs, _ := readPairs(t, write("dropped", "--drop-last")); pairs != 12 {
		t.Errorf("%d pairs without the last batch, want 12", pairs)
	}
	if pairs, got := readPairs(t, write("window", "--shuffle", "window:6")); pairs != 14 || got == want {
		t.Errorf("%d pairs in windows, in the order of a full shuffle: %t", pairs, got == want)
	}

	recipe := filepath.Join(dir, "recipe.json")
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(recipe, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	save(mustRun(t, "augment", "--print-recipe"))
	if _, got := readPairs(t, write("recipe", "--recipe", recipe)); got != want {
		t.Error("the printed recipe gives other pairs than the name")
	}
	if _, got := readPairs(t, write("crops", "--crop", "0.5")); got == want {
		t.Error("--crop changes nothing")
	}
	for _, text := range []string{`{"name": "mine"}`, `{"blur": 1}`, "no recipe"} {
		save(text)
		if code, _ := pixpro(t, "augment", "--shards", shards, "--out", filepath.Join(dir, "bad"), "--recipe", recipe); code != exitUsage {
			t.Errorf("recipe %s: exit code %d", text, code)
		}
	}

	var first streamed
	report := mustRun(t, "augment", "--shards", shards, "--out", filepath.Join(dir, "first"), "--size", "16", "--batch", "4", "--seed", "3", "--limit", "5", "--json")
	if err := json.Unmarshal([]byte(report), &first); err != nil || first.Pairs != 5 || first.Batches != 2 {
		t.Fatalf("%q: %+v, %v", report, first, err)
	}
	rest := write("rest", "--start", fmt.Sprintf("%d:%d", first.Position.Epoch, first.Position.Offset))
	if _, got := readPairs(t, filepath.Join(dir, "first"), rest); got != want {
		t.Errorf("a stream stopped at %+v and resumed gives other pairs", first.Position)
	}
}

func TestReaderThatGoesAwayEndsTheWatch(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, end := whileRead(context.Background(), w)
	defer end()
	if ctx.Err() != nil {
		t.Fatal("cancelled while there is a reader")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the cause is %v", err)
	}
}

// An endless stream ends, without an error, when nobody reads it any more.
func TestAugmentEndsWithItsReader(t *testing.T) {
	shards := smallShards(t, 8)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	code := make(chan int)
	go func() {
		code <- run(t.Context(), []string{"augment", "--shards", shards, "--epochs", "0", "--batch", "4", "--size", "64", "--log-level", "warn"})
	}()
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Error(err)
	}
	r.Close()
	if got := <-code; got != exitFine {
		t.Errorf("ended with %d, want %d", got, exitFine)
	}
}

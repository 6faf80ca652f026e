package shards

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// picture is a seeded image of w x h pixels, encoded by the format's name.
func picture(tb testing.TB, format string, w, h int, seed uint64) []byte {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(3 * x), uint8(5 * y), uint8(rng.IntN(256)), 255})
		}
	}
	var buf bytes.Buffer
	var err error
	if format == "png" {
		err = png.Encode(&buf, img)
	} else {
		err = jpeg.Encode(&buf, img, nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// tree writes files by key below a new folder and returns it.
func tree(tb testing.TB, files map[string][]byte) string {
	tb.Helper()
	root := tb.TempDir()
	for key, data := range files {
		path := filepath.Join(root, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			tb.Fatal(err)
		}
	}
	return root
}

// classTree is a folder of classes with n images, and files that are none.
func classTree(tb testing.TB, n int) string {
	tb.Helper()
	files := map[string][]byte{
		"cat/notes.txt":  []byte("not an image"),
		"cat/000b.jpg":   []byte("not an image either, but named like one"),
		"dog/cut.png":    picture(tb, "png", 9, 9, 1)[:20],
		"zebra/.hidden":  nil,
		"dog/empty.jpeg": nil,
	}
	for i := range n {
		class, format := []string{"cat", "dog", "žirafa"}[i%3], []string{"jpeg", "png"}[i%2]
		files[fmt.Sprintf("%s/%03d.%s", class, i, format)] = picture(tb, format, 8+i%5, 8+i%7, uint64(i))
	}
	return tree(tb, files)
}

// write shards in with 3 workers and fails the test if that fails.
func write(tb testing.TB, in string, shardSize int64) string {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "out")
	if _, _, err := Write(context.Background(), WriteConfig{In: in, Out: out, ShardSize: shardSize, Workers: 3, MaxBad: 1}); err != nil {
		tb.Fatal(err)
	}
	return out
}

// open opens a dataset until the end of the test.
func open(tb testing.TB, dir string) *Dataset {
	tb.Helper()
	d, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// digests are the SHA-256 of all files of a folder by name.
func digests(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		sum := sha256.Sum256(data)
		out[e.Name()] = hex.EncodeToString(sum[:])
	}
	return out
}

func wantCorrupt(tb testing.TB, err error, shard string, row int64, reason string) {
	tb.Helper()
	var c *CorruptError
	if !errors.As(err, &c) {
		tb.Fatalf("error is %v, not a CorruptError", err)
	}
	if c.Shard != shard || c.Row != row || !strings.Contains(c.Reason, reason) {
		tb.Errorf("error is %+v, want shard %s, row %d, reason %q", *c, shard, row, reason)
	}
}

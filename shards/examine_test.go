package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// badAmongGood is a folder of n images of which bad are cut in their pixels.
func badAmongGood(tb testing.TB, n, bad int) string {
	files := map[string][]byte{}
	for i := range n {
		data := picture(tb, "png", 9, 9, uint64(i))
		if i < bad {
			data = data[:len(data)-30]
		}
		files[fmt.Sprintf("c%d/%03d.png", i%3, i)] = data
	}
	return tree(tb, files)
}

func TestCheckDecodeFindsCutImages(t *testing.T) {
	in := badAmongGood(t, 30, 2)
	if _, report := shardInto(t, WriteConfig{In: in}); report.Rows != 30 {
		t.Errorf("by headers: report is %+v", report)
	}
	out, report := shardInto(t, WriteConfig{In: in, Check: CheckDecode, MaxBad: 0.1})
	if report.Rows != 28 || report.Rejected != 2 {
		t.Errorf("by decoding: report is %+v", report)
	}
	rejected, err := os.ReadFile(filepath.Join(out, rejectedName))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(rejected)), "\n")
	for i, key := range []string{"c0/000.png", "c1/001.png"} {
		if len(lines) != 2 || !strings.HasPrefix(lines[i], `{"key":"`+key+`","reason":"decode: `) {
			t.Fatalf("rejected.jsonl is %q", lines)
		}
	}
}

func TestMaxBadDecidesWhenToStop(t *testing.T) {
	for _, c := range []struct {
		images, bad int
		maxBad      float64
		stops       bool
	}{
		{100, 0, -1, false},
		{100, 1, -1, true},
		{100, 1, 0, false}, // the default is 1 %
		{100, 2, 0, true},
		{20, 1, 0, true},
		{20, 5, 0.25, false},
		{20, 6, 0.25, true},
		{4, 3, 1, false},
	} {
		cfg := WriteConfig{In: badAmongGood(t, c.images, c.bad), Out: filepath.Join(t.TempDir(), "out"), ShardSize: 2 << 10, Check: CheckDecode, MaxBad: c.maxBad}
		_, _, err := Write(context.Background(), cfg)
		if errors.Is(err, ErrTooManyBad) != c.stops || err != nil && !c.stops {
			t.Errorf("%+v: error is %v", c, err)
		}
		if !c.stops {
			continue
		}
		if _, err := os.Stat(filepath.Join(cfg.Out, rejectedName)); err != nil {
			t.Errorf("%+v: nobody can see which were bad: %v", c, err)
		}
		// With a higher limit it goes on, and ends as if it had been given at first.
		cfg.MaxBad = 1
		want, _ := shardInto(t, cfg)
		cfg.Resume = true
		if _, _, err := Write(context.Background(), cfg); err != nil {
			t.Errorf("%+v: going on: %v", c, err)
		} else if diff := cmp.Diff(digests(t, want), digests(t, cfg.Out)); diff != "" {
			t.Errorf("%+v: (-at once +resumed):\n%s", c, diff)
		}
	}
}

func TestOrders(t *testing.T) {
	in := classTree(t, 40)
	keys := func(cfg WriteConfig) (out []string) {
		cfg.In, cfg.MaxBad, cfg.ShardSize = in, 1, 3<<10
		dir, _ := shardInto(t, cfg)
		d := open(t, dir)
		if m := d.Manifest(); m.Order == OrderShuffle != (cfg.Order == OrderShuffle) || m.Seed != cfg.Seed {
			t.Errorf("%+v: the manifest says %q, %d", cfg, m.Order, m.Seed)
		}
		for i := range d.Len() {
			s, err := d.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s.Key)
		}
		return out
	}
	sorted := keys(WriteConfig{Order: OrderPath})
	if !slices.IsSorted(sorted) || len(sorted) != 40 {
		t.Errorf("by path: %v", sorted)
	}
	one := keys(WriteConfig{Order: OrderShuffle, Seed: 1, Workers: 1})
	if !slices.Equal(one, keys(WriteConfig{Order: OrderShuffle, Seed: 1, Workers: 5})) {
		t.Error("the same seed gives another order")
	}
	if slices.Equal(one, keys(WriteConfig{Order: OrderShuffle, Seed: 2})) {
		t.Error("another seed gives the same order")
	}
	slices.Sort(one)
	if !slices.Equal(one, sorted) {
		t.Error("shuffling lost or doubled images")
	}
}

func TestMaxSideShrinksOnlyWhatIsLarger(t *testing.T) {
	files := map[string][]byte{
		"a/wide.png":  picture(t, "png", 90, 30, 1),
		"a/high.jpg":  picture(t, "jpeg", 31, 62, 2),
		"a/thin.png":  picture(t, "png", 200, 1, 3),
		"a/small.png": picture(t, "png", 40, 40, 4),
	}
	in := tree(t, files)
	out, _ := shardInto(t, WriteConfig{In: in, MaxSide: 40, Workers: 1})
	again, _ := shardInto(t, WriteConfig{In: in, MaxSide: 40, Workers: 4})
	if diff := cmp.Diff(digests(t, out), digests(t, again)); diff != "" {
		t.Errorf("1 worker and 4 (-1 +4):\n%s", diff)
	}
	d := open(t, out)
	if d.Manifest().MaxSide != 40 {
		t.Error("the manifest does not say that images were shrunk")
	}
	got := map[string]string{}
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		got[s.Key] = fmt.Sprintf("%s %dx%d", s.Format, s.Width, s.Height)
		if s.Key == "a/small.png" {
			if !bytes.Equal(s.Image, files[s.Key]) {
				t.Error("an image of that size was changed")
			}
			continue
		}
		m, err := jpeg.Decode(bytes.NewReader(s.Image))
		if err != nil {
			t.Fatal(err)
		}
		if m.Bounds() != image.Rect(0, 0, int(s.Width), int(s.Height)) {
			t.Errorf("%s: the JPEG is %v", s.Key, m.Bounds())
		}
		if s.Key == "a/wide.png" { // red rises by 3 a pixel, so the middle of 40 is near 3*45
			if r, _, _, _ := m.At(20, 0).RGBA(); r>>8 < 120 || r>>8 > 155 {
				t.Errorf("red in the middle is %d", r>>8)
			}
		}
	}
	want := map[string]string{"a/wide.png": "jpeg 40x13", "a/high.jpg": "jpeg 20x40", "a/thin.png": "jpeg 40x1", "a/small.png": "png 40x40"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An archive that grows while it is read is noticed, as is a file.
func TestChangingInput(t *testing.T) {
	files := map[string][]byte{}
	for i := range 60 {
		files[fmt.Sprintf("c/%02d.png", i)] = picture(t, "png", 9, 9, uint64(i))
	}
	folder := tree(t, files)
	archive := put(t, "x.tar", tarOf(t, members(files)))
	for name, c := range map[string]struct {
		in     string
		change func() error
		want   string
	}{
		"a tar that grows": {archive, func() error {
			f, err := os.OpenFile(archive, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte("more"))
			return errors.Join(err, f.Close())
		}, "x.tar changed while it was read"},
		"a file that goes": {folder, func() error { return os.Remove(filepath.Join(folder, "c", "59.png")) }, "no such file"},
	} {
		cfg := WriteConfig{In: c.in, Out: filepath.Join(t.TempDir(), "out"), Workers: 1}
		cfg.Listener = func(e Event) {
			p := e.(WriteProgress)
			if p.Files == 1 {
				if err := c.change(); err != nil {
					t.Error(err)
				}
			}
		}
		_, _, err := Write(context.Background(), cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
		if _, err := Open(cfg.Out); err == nil {
			t.Errorf("%s: there is a dataset", name)
		}
	}
}

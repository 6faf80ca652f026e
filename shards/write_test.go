package shards

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

func TestWriteKeepsEveryImage(t *testing.T) {
	files := map[string][]byte{
		"at the root.jpg":  picture(t, "jpeg", 5, 4, 1),
		"b/png named.JPEG": picture(t, "png", 7, 3, 2),
		"b/no extension":   picture(t, "jpeg", 2, 2, 3),
		"a-b/x.jpg":        picture(t, "jpeg", 1, 1, 4),
		"a/ünïcödé/日本.jpg": picture(t, "jpeg", 16, 9, 5),
		"a/bad.jpg":        []byte("\xff\xd8\xff but no JPEG"),
		"a/readme.md":      []byte("text"),
	}
	in := tree(t, files)
	out := filepath.Join(t.TempDir(), "new", "folder")
	m, report, err := Write(context.Background(), WriteConfig{In: in, Out: out, MaxBad: 1})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "a-b", "b"}; !slices.Equal(m.Classes, want) {
		t.Errorf("classes are %q, want %q", m.Classes, want)
	}
	if report.Rows != 5 || report.Rejected != 1 || report.Skipped != 1 || report.Shards != 1 {
		t.Errorf("report is %+v", report)
	}
	rejected, err := os.ReadFile(filepath.Join(out, "rejected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(rejected), `{"key":"a/bad.jpg","reason":"`) || bytes.Count(rejected, []byte("\n")) != 1 {
		t.Errorf("rejected.jsonl is %q", rejected)
	}

	type row struct {
		Key, Format   string
		Label, W, H   int32
		SameAsTheFile bool
	}
	var got []row
	d := open(t, out)
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if s.Index != i {
			t.Errorf("sample %d has index %d", i, s.Index)
		}
		got = append(got, row{s.Key, s.Format, s.Label, s.Width, s.Height, bytes.Equal(s.Image, files[s.Key])})
	}
	want := []row{
		{"a-b/x.jpg", "jpeg", 1, 1, 1, true},
		{"a/ünïcödé/日本.jpg", "jpeg", 0, 16, 9, true},
		{"at the root.jpg", "jpeg", -1, 5, 4, true},
		{"b/no extension", "jpeg", 2, 2, 2, true},
		{"b/png named.JPEG", "png", 2, 7, 3, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// Any Arrow reader sees the same rows.
func TestShardIsAnArrowFile(t *testing.T) {
	out := write(t, classTree(t, 150), 16<<10)
	d := open(t, out)
	row := int64(0)
	for _, info := range d.Manifest().Shards {
		f, err := os.Open(filepath.Join(out, info.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := ipc.NewFileReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Schema().Equal(Schema()) {
			t.Fatalf("schema is %v", r.Schema())
		}
		for i := range r.NumRecords() {
			rec, err := r.RecordAt(i)
			if err != nil {
				t.Fatal(err)
			}
			if rec.NumRows() > maxBatchRows {
				t.Errorf("a record batch has %d rows", rec.NumRows())
			}
			format := rec.Column(colFormat).(*array.Dictionary)
			for j := range int(rec.NumRows()) {
				got := Sample{
					Index:  row,
					Key:    rec.Column(colKey).(*array.String).Value(j),
					Label:  rec.Column(colLabel).(*array.Int32).Value(j),
					Format: format.Dictionary().(*array.String).Value(format.GetValueIndex(j)),
					Width:  rec.Column(colWidth).(*array.Int32).Value(j),
					Height: rec.Column(colHeight).(*array.Int32).Value(j),
					CRC32C: rec.Column(colCRC32C).(*array.Uint32).Value(j),
					Image:  rec.Column(colImage).(*array.LargeBinary).Value(j),
				}
				want, err := d.Sample(row)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Sample{})); diff != "" {
					t.Fatalf("row %d (-ours +Arrow's):\n%s", row, diff)
				}
				row++
			}
			rec.Release()
		}
	}
	if row != d.Len() || row != 150 {
		t.Errorf("Arrow reads %d rows, the dataset has %d", row, d.Len())
	}
}

func TestSameBytesForAnyNumberOfWorkers(t *testing.T) {
	in := classTree(t, 60)
	var want map[string]string
	for _, workers := range []int{1, 2, 7} {
		out := filepath.Join(t.TempDir(), "out")
		if _, _, err := Write(context.Background(), WriteConfig{In: in, Out: out, ShardSize: 8 << 10, Workers: workers, MaxBad: 1}); err != nil {
			t.Fatal(err)
		}
		got := digests(t, out)
		if want == nil {
			want = got
		}
		if len(got) < 5 {
			t.Fatalf("only %d files: too few to compare", len(got))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d workers (-1 worker +now):\n%s", workers, diff)
		}
	}
}

func TestShardSizeBoundsImageBytes(t *testing.T) {
	const size = 4 << 10
	m := open(t, write(t, classTree(t, 60), size)).Manifest()
	for i, s := range m.Shards {
		if s.ImageBytes > size && s.Rows > 1 {
			t.Errorf("shard %d has %d image bytes in %d rows", i, s.ImageBytes, s.Rows)
		}
	}
}

// stopAfter is a context that is cancelled after n files.
func stopAfter(n int64) (context.Context, Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, func(e Event) {
		p := e.(WriteProgress)
		if p.Files == n {
			cancel()
		}
	}
}

func TestResumeAfterCancelGivesTheSameBytes(t *testing.T) {
	in := classTree(t, 24)
	whole := write(t, in, 2<<10)
	want := digests(t, whole)
	for n := int64(1); n <= 24; n++ {
		out := t.TempDir()
		cfg := WriteConfig{In: in, Out: out, ShardSize: 2 << 10, Workers: 2, MaxBad: 1}
		ctx, progress := stopAfter(n)
		cfg.Listener = progress
		_, report, err := Write(ctx, cfg)
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrResumable) != (report.Shards > 0) {
			t.Fatalf("cancelled after %d files: %d shards, error is %v", n, report.Shards, err)
		}
		for name, sum := range digests(t, out) {
			if name != stateName && sum != want[name] {
				t.Errorf("cancelled after %d files: %s is not what it should become", n, name)
			}
		}
		cfg.Resume, cfg.Listener = true, nil
		m, report, err := Write(context.Background(), cfg)
		if err != nil {
			t.Fatalf("resumed after %d files: %v", n, err)
		}
		if diff := cmp.Diff(want, digests(t, out)); diff != "" {
			t.Errorf("resumed after %d files (-unbroken +resumed):\n%s", n, diff)
		}
		if report.Rows != m.Rows || report.Rejected != 3 || report.Skipped != 2 || report.Shards != len(m.Shards) {
			t.Errorf("resumed after %d files: report is %+v", n, report)
		}
	}
}

// interrupted is the folder that a run killed late leaves behind.
func interrupted(t *testing.T, in string) (out string, cfg WriteConfig) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "out")
	ctx, progress := stopAfter(22)
	cfg = WriteConfig{In: in, Out: out, ShardSize: 2 << 10, Workers: 2, MaxBad: 1, Listener: progress}
	if _, _, err := Write(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(digests(t, out)); n < 4 {
		t.Fatalf("only %d files were finished: too few to test with", n)
	}
	cfg.Resume, cfg.Listener = true, nil
	return out, cfg
}

func TestResumeChecksWhatItFinds(t *testing.T) {
	in := classTree(t, 24)
	want := digests(t, write(t, in, 2<<10))
	for name, damage := range map[string]func(out string) error{
		"leftover temporary files": func(out string) error {
			return errors.Join(
				os.WriteFile(filepath.Join(out, "shard-00002.arrow.tmp"), []byte("half"), 0o666),
				os.WriteFile(filepath.Join(out, "rejected.jsonl.tmp"), []byte("half"), 0o666))
		},
		"a damaged shard": func(out string) error {
			path := filepath.Join(out, shardName(1))
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			return os.WriteFile(path, data, 0o666)
		},
		"a missing shard": func(out string) error { return os.Remove(filepath.Join(out, shardName(0))) },
		"a shard that the state does not know yet": func(out string) error {
			s, err := readState(out)
			if err != nil {
				return err
			}
			s.Shards = s.Shards[:len(s.Shards)-1]
			return s.write(atomicfile.OS, out)
		},
	} {
		out, cfg := interrupted(t, in)
		if err := damage(out); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Write(context.Background(), cfg); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := digests(t, out)
		maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasSuffix(name, ".tmp") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-unbroken +resumed):\n%s", name, diff)
		}
	}
}

// finished is the folder of a run that came to its end.
func finished(t *testing.T, in string) (out string, cfg WriteConfig) {
	t.Helper()
	out, _ = shardInto(t, WriteConfig{In: in, ShardSize: 2 << 10, MaxBad: 1})
	return out, WriteConfig{In: in, Out: out, ShardSize: 2 << 10, MaxBad: 1, Resume: true}
}

func TestResumeRefusesOtherInput(t *testing.T) {
	type change = func(in string, cfg *WriteConfig) error
	for name, c := range map[string]struct {
		change change
		want   string
	}{
		"another shard size": {func(in string, cfg *WriteConfig) error { cfg.ShardSize++; return nil }, "shard size of 2048"},
		"another order":      {func(in string, cfg *WriteConfig) error { cfg.Order = OrderShuffle; return nil }, "the order path"},
		"another side":       {func(in string, cfg *WriteConfig) error { cfg.MaxSide = 5; return nil }, "a largest side of 0"},
		"another check":      {func(in string, cfg *WriteConfig) error { cfg.Check = CheckDecode; return nil }, "the check header"},
		"a new file": {func(in string, cfg *WriteConfig) error {
			return os.WriteFile(filepath.Join(in, "cat", "new"), nil, 0o666)
		}, "other inputs or labels"},
		"another folder": {func(in string, cfg *WriteConfig) error { cfg.In = filepath.Join(in, "cat"); return nil }, "other inputs or labels"},
		"labels": {func(in string, cfg *WriteConfig) error {
			cfg.Labels = filepath.Join(t.TempDir(), "labels")
			return os.WriteFile(cfg.Labels, []byte("000.jpeg\tx"), 0o666)
		}, "other inputs or labels"},
		"a second input": {func(in string, cfg *WriteConfig) error {
			cfg.MoreIn = []string{tree(t, map[string][]byte{"cat/more.png": picture(t, "png", 3, 3, 1)})}
			return nil
		}, "other inputs or labels"},
	} {
		for kind, run := range map[string]func(*testing.T, string) (string, WriteConfig){"interrupted": interrupted, "finished": finished} {
			in := classTree(t, 24)
			out, cfg := run(t, in)
			before := digests(t, out)
			if err := c.change(in, &cfg); err != nil {
				t.Fatal(err)
			}
			_, _, err := Write(context.Background(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "empty folder") {
				t.Errorf("%s, %s run: error is %v", name, kind, err)
			}
			if diff := cmp.Diff(before, digests(t, out)); diff != "" {
				t.Errorf("%s, %s run: the folder changed:\n%s", name, kind, diff)
			}
		}
	}
	in := classTree(t, 24)
	_, cfg := interrupted(t, in)
	if err := os.WriteFile(filepath.Join(in, "cat", "000b.jpg"), picture(t, "jpeg", 3, 3, 3), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Write(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "cat/000b.jpg has changed") {
		t.Errorf("a rejected file that was mended: error is %v", err)
	}
}

// What is in an archive is compared by sizes, too.
func TestResumeRefusesAnotherArchive(t *testing.T) {
	for name, pack := range map[string]func(testing.TB, []member) []byte{
		"zip":    zipOf,
		"tar":    tarOf,
		"tar.gz": func(tb testing.TB, files []member) []byte { return gzipped(tb, tarOf(tb, files)) },
	} {
		one := put(t, "x", pack(t, []member{{"a/1.png", picture(t, "png", 3, 3, 1)}}))
		two := put(t, "x", pack(t, []member{{"a/1.png", picture(t, "png", 30, 30, 2)}}))
		out, _ := shardInto(t, WriteConfig{In: one})
		before := digests(t, out)
		if _, report, err := Write(context.Background(), WriteConfig{In: one, Out: out, Resume: true}); err != nil || report.Kept != 1 {
			t.Errorf("%s: resuming with the same: %+v, %v", name, report, err)
		}
		if _, _, err := Write(context.Background(), WriteConfig{In: two, Out: out, Resume: true}); err == nil || !strings.Contains(err.Error(), "other inputs") {
			t.Errorf("%s: resuming with another: %v", name, err)
		}
		if diff := cmp.Diff(before, digests(t, out)); diff != "" {
			t.Errorf("%s: the dataset changed:\n%s", name, diff)
		}
	}
}

// The first release's manifests do not tell the inputs: --resume finds such a
// dataset finished, unless the manifest tells otherwise.
func TestResumeOfAnEarlyDataset(t *testing.T) {
	_, cfg := finished(t, classTree(t, 24))
	m, err := readManifest(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	m.Sharding = nil
	if err := m.write(atomicfile.OS, cfg.Out); err != nil {
		t.Fatal(err)
	}
	if _, report, err := Write(context.Background(), cfg); err != nil || report.Rows != 24 {
		t.Errorf("report is %+v, error %v", report, err)
	}
	cfg.MaxSide = 4
	if _, _, err := Write(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "a largest side of 0") {
		t.Errorf("another side: %v", err)
	}
}

func TestWriteRefusesAFolderInUse(t *testing.T) {
	in := classTree(t, 6)
	out := write(t, in, 0)
	before := digests(t, out)
	cfg := WriteConfig{In: in, Out: out, MaxBad: 1}
	if _, _, err := Write(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("writing twice: error is %v", err)
	}
	cfg.Resume = true
	if m, report, err := Write(context.Background(), cfg); err != nil || m.Rows != 6 || report.Kept != 1 {
		t.Errorf("resuming a finished run: %+v, %v", report, err)
	}
	if diff := cmp.Diff(before, digests(t, out)); diff != "" {
		t.Errorf("the dataset changed:\n%s", diff)
	}
	cfg.Out = in
	if _, _, err := Write(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "holds no interrupted run") {
		t.Errorf("resuming into a folder of something else: error is %v", err)
	}
}

func TestWriteErrors(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	file := filepath.Join(tree(t, map[string][]byte{"f.jpg": picture(t, "jpeg", 2, 2, 1)}), "f.jpg")
	bad := tree(t, map[string][]byte{"a/x.jpg": []byte("no"), "a/y.txt": nil})
	for name, c := range map[string]struct {
		cfg  WriteConfig
		want string
	}{
		"no input":          {WriteConfig{Out: none}, "In: a folder or an archive of images is needed"},
		"no output":         {WriteConfig{In: bad}, "Out: a folder"},
		"negative size":     {WriteConfig{In: bad, Out: none, ShardSize: -1}, "ShardSize is -1"},
		"negative workers":  {WriteConfig{In: bad, Out: none, Workers: -1}, "Workers is -1"},
		"missing input":     {WriteConfig{In: filepath.Join(none, "x"), Out: none}, "no such file"},
		"an image as input": {WriteConfig{In: file, Out: none}, "is no tar, zip or list of paths"},
		"a file as folder":  {WriteConfig{In: file, Out: none, Format: "folder"}, "is not a folder"},
		"a folder as tar":   {WriteConfig{In: bad, Out: none, Format: "tar"}, "is a folder and not a tar"},
		"unknown format":    {WriteConfig{In: bad, Out: none, Format: "rar"}, `Format is "rar"`},
		"unknown order":     {WriteConfig{In: bad, Out: none, Order: "size"}, `Order is "size"`},
		"seed unused":       {WriteConfig{In: bad, Out: none, Seed: 3}, "Seed is 3, which only Order shuffle uses"},
		"unknown check":     {WriteConfig{In: bad, Out: none, Check: "all"}, `Check is "all"`},
		"too large a side":  {WriteConfig{In: bad, Out: none, MaxSide: 1 << 16}, "MaxSide is 65536"},
		"share over 1":      {WriteConfig{In: bad, Out: none, MaxBad: 5}, "MaxBad is 5"},
		"nothing but waste": {WriteConfig{In: bad, Out: none, MaxBad: 1}, "(skipped files: 1, rejected: 1; the first: a/x.jpg: "},
	} {
		_, _, err := Write(context.Background(), c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
		if entries, err := os.ReadDir(none); !errors.Is(err, fs.ErrNotExist) && len(entries) > 0 {
			t.Errorf("%s: left %v behind", name, entries)
		}
	}
}

func TestLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows lets only privileged users make links, which the dataset is made of")
	}
	in := tree(t, map[string][]byte{"a/1.jpg": picture(t, "jpeg", 4, 4, 1), "a/deep/2.jpg": picture(t, "jpeg", 4, 4, 2)})
	for link, target := range map[string]string{
		"b":          "a",          // a class by link
		"a/up":       "..",         // a loop
		"a/self":     ".",          // a loop
		"a/file.jpg": "deep/2.jpg", // an image by link
		"a/gone.jpg": "nowhere",
		"a/ring.jpg": "ring.jpg",
	} {
		if err := os.Symlink(target, filepath.Join(in, link)); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, write(t, in, 0))
	var keys []string
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprint(s.Label, " ", s.Key))
	}
	// a/up leads to the input folder, b/up does from the other side.
	want := []string{"0 a/1.jpg", "0 a/deep/2.jpg", "0 a/file.jpg", "1 b/1.jpg", "1 b/deep/2.jpg", "1 b/file.jpg"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestWindowLetsTheNextFilePass(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWindow(ctx, 10)
	if err := w.acquire(1, 8); err != nil { // a later file is quicker
		t.Fatal(err)
	}
	if err := w.acquire(0, 100); err != nil { // too large, but next in order
		t.Fatal(err)
	}
	third := make(chan error)
	go func() { third <- w.acquire(2, 5) }()
	w.release(0, 100)
	w.release(1, 8) // now there is room, and it is its turn
	if err := <-third; err != nil {
		t.Fatal(err)
	}
	go func() { third <- w.acquire(9, 8) }()
	cancel()
	if err := <-third; !errors.Is(err, context.Canceled) {
		t.Errorf("waiting when cancelled: %v", err)
	}
}

// Small pieces are hashed in time, too: a shard of tiny images has no others.
func TestHashedFileKeepsLittle(t *testing.T) {
	f, err := atomicfile.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := hashedFile{file: f, hash: sha256.New()}
	want := sha256.New()
	for i := range 2000 {
		piece := bytes.Repeat([]byte{byte(i)}, i%700)
		if i%400 == 399 {
			piece = make([]byte, largePiece+i)
		}
		want.Write(piece)
		if _, err := h.Write(piece); err != nil {
			t.Fatal(err)
		}
		if cap(h.small) > 4*largePiece {
			t.Fatalf("keeps %d bytes after %d pieces", cap(h.small), i)
		}
	}
	if got := h.sum(); got != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("the sum is %s", got)
	}
}

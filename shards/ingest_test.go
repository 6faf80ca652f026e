package shards

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

// member is a file of an archive made by a test.
type member struct {
	name string
	data []byte
}

const tarBlock = 512

func members(files map[string][]byte) []member {
	var out []member
	for _, name := range slices.Sorted(maps.Keys(files)) {
		out = append(out, member{name, files[name]})
	}
	return out
}

func tarOf(tb testing.TB, files []member) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func zipOf(tb testing.TB, files []member) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, f := range files {
		out, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: []uint16{zip.Store, zip.Deflate}[i%2]})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := out.Write(f.data); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// tarOfTars is how ImageNet's training images come: one tar a class.
func tarOfTars(tb testing.TB, files []member) []byte {
	tb.Helper()
	classes := map[string][]member{}
	var outer []member
	for _, f := range files {
		class, name, found := strings.Cut(f.name, "/")
		if !found {
			outer = append(outer, f)
			continue
		}
		classes[class] = append(classes[class], member{name, f.data})
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		outer = append(outer, member{class + []string{".tar", ".TAR"}[len(class)%2], tarOf(tb, classes[class])})
	}
	return tarOf(tb, outer)
}

// webDataset puts a class beside every image that has one.
func webDataset(files []member) []member {
	var out []member
	for _, f := range files {
		out = append(out, f)
		if class, _, found := strings.Cut(f.name, "/"); found && ingest.HasImageExtension(f.name) {
			out = append(out, member{strings.TrimSuffix(f.name, path.Ext(f.name)) + ".cls", []byte(class + "\n")})
		}
	}
	return out
}

func gzipped(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	return compressed(tb, w, &buf, data)
}

func zstandard(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	if err != nil {
		tb.Fatal(err)
	}
	return compressed(tb, w, &buf, data)
}

func compressed(tb testing.TB, w io.WriteCloser, buf *bytes.Buffer, data []byte) []byte {
	tb.Helper()
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// generatedTree is a random tree of images, and of files that are none.
func generatedTree(tb testing.TB, seed uint64) []member {
	rng := rand.New(rand.NewPCG(seed, 2))
	names := []string{"n01440764", "Žluťoučký kůň", "a b", "日本", "a.b.c", "'q\"", "e\u0301", "🐈", "#x", "-d"}
	pick := func() string { return names[rng.IntN(len(names))] }
	files := map[string][]byte{"notes.txt": []byte("no image"), "Thumbs.db": {1, 2, 3}}
	for i := range 12 {
		dir := ""
		for range rng.IntN(4) {
			dir += pick() + "/"
		}
		format := []string{"jpeg", "png"}[rng.IntN(2)]
		extension := []string{"jpeg", "JPEG", "png", "jpg"}[rng.IntN(4)] // also wrong ones
		files[fmt.Sprintf("%s%s%d.%s", dir, pick(), i, extension)] = picture(tb, format, 1+rng.IntN(9), 1+rng.IntN(9), seed+uint64(i))
	}
	return members(files)
}

// row is what must survive sharding.
type row struct {
	Key, Class string
	Image      string
}

// rows returns all rows of a dataset, sorted by key.
func rows(tb testing.TB, dir string) []row {
	tb.Helper()
	d := open(tb, dir)
	var out []row
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			tb.Fatal(err)
		}
		r := row{Key: s.Key, Image: string(s.Image)}
		if s.Label >= 0 {
			r.Class = fmt.Sprintf("%d %s", s.Label, d.manifest.Classes[s.Label])
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// put writes a file into a folder of its own and returns its path.
func put(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		tb.Fatal(err)
	}
	return path
}

// shardInto writes the dataset that cfg describes into a new folder.
func shardInto(tb testing.TB, cfg WriteConfig) (dir string, report WriteReport) {
	tb.Helper()
	cfg.Out = filepath.Join(tb.TempDir(), "out")
	_, report, err := Write(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return cfg.Out, report
}

func TestEveryKindOfInputGivesTheSameRows(t *testing.T) {
	for seed := range uint64(8) {
		files := generatedTree(t, seed)
		content := map[string][]byte{}
		var paths []string
		for _, f := range files {
			content[f.name] = f.data
			paths = append(paths, f.name)
		}
		folder := tree(t, content)
		var absolute []string
		for _, p := range paths {
			absolute = append(absolute, filepath.Join(folder, filepath.FromSlash(p)))
		}
		for name, list := range map[string][]string{"relative.txt": paths, "absolute.txt": absolute} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Join(list, "\r\n")), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		plain := tarOf(t, files)
		zipped := zipOf(t, files)
		dotted := slices.Clone(files)
		for i := range dotted {
			dotted[i].name = "./" + dotted[i].name
		}
		out, _ := shardInto(t, WriteConfig{In: folder})
		want := rows(t, out)
		if len(want) != 12 {
			t.Fatalf("the folder gives %d rows", len(want))
		}
		for name, cfg := range map[string]WriteConfig{
			"tar":               {In: put(t, "x.tar", plain)},
			"tar with dots":     {In: put(t, "x.tar", tarOf(t, dotted))},
			"tar without name":  {In: put(t, "x", plain)},
			"tar by format":     {In: put(t, "x", plain), Format: "tar"},
			"tar.gz":            {In: put(t, "x.tar.gz", gzipped(t, plain))},
			"tar.zst":           {In: put(t, "x.tar.zst", zstandard(t, plain))},
			"tar of tars":       {In: put(t, "x.tar", tarOfTars(t, files))},
			"tar of tars, zstd": {In: put(t, "x.tar", zstandard(t, tarOfTars(t, files)))},
			"zip":               {In: put(t, "x.zip", zipped)},
			"zip.gz":            {In: put(t, "x.zip.gz", gzipped(t, zipped))},
			"WebDataset":        {In: put(t, "x.tar", tarOf(t, webDataset(files)))},
			"WebDataset, gzip":  {In: put(t, "x.tgz", gzipped(t, tarOf(t, webDataset(files))))},
			"list":              {In: filepath.Join(folder, "relative.txt")},
			"absolute list":     {In: filepath.Join(folder, "absolute.txt")},
			"list by format":    {In: filepath.Join(folder, "relative.txt"), Format: "list"},
			"split in two": {
				In:     put(t, "a.tar", tarOf(t, files[:6])),
				MoreIn: []string{put(t, "b.zip", zipOf(t, files[6:]))},
			},
		} {
			cfg.Workers = 2
			out, report := shardInto(t, cfg)
			if diff := cmp.Diff(want, rows(t, out)); diff != "" {
				t.Errorf("tree %d, %s (-folder +archive):\n%s", seed, name, diff)
			}
			if report.Rejected != 0 || report.Skipped != 2 {
				t.Errorf("tree %d, %s: report is %+v", seed, name, report)
			}
			if left, err := filepath.Glob(filepath.Join(out, "*.tmp")); err != nil || len(left) > 0 {
				t.Errorf("%s: left %v behind (%v)", name, left, err)
			}
		}
	}
}

// classesOf maps keys to classes.
func classesOf(tb testing.TB, dir string) map[string]string {
	out := map[string]string{}
	for _, r := range rows(tb, dir) {
		out[r.Key] = r.Class
	}
	return out
}

func TestLabels(t *testing.T) {
	p := picture(t, "jpeg", 3, 3, 1)
	val := put(t, "val.tar", tarOf(t, []member{{"val_00000002.JPEG", p}, {"val_00000001.JPEG", p}, {"readme", nil}, {"val_00000003.JPEG", p}}))
	for name, c := range map[string]struct {
		labels string
		want   map[string]string
	}{
		"ground truth": {"2\n4\n2\n", map[string]string{"val_00000001.JPEG": "1 2", "val_00000002.JPEG": "3 4", "val_00000003.JPEG": "1 2"}},
		"names": {
			"val_00000003.JPEG\tzebra\nval_00000001.JPEG\tn01 cat\r\nval_00000002.JPEG\tzebra\n",
			map[string]string{"val_00000001.JPEG": "0 n01 cat", "val_00000002.JPEG": "1 zebra", "val_00000003.JPEG": "1 zebra"},
		},
		"some names, with folders": {
			"val/val_00000003.JPEG\tzebra\nval_00000001.JPEG\tcat",
			map[string]string{"val_00000001.JPEG": "0 cat", "val_00000002.JPEG": "", "val_00000003.JPEG": ""},
		},
		"numbers after a space": {
			"val_00000001.JPEG 65\nval_00000002.JPEG 2\nval_00000003.JPEG 65",
			map[string]string{"val_00000001.JPEG": "65 65", "val_00000002.JPEG": "2 2", "val_00000003.JPEG": "65 65"},
		},
	} {
		out, _ := shardInto(t, WriteConfig{In: val, Labels: put(t, "labels.txt", []byte(c.labels))})
		if diff := cmp.Diff(c.want, classesOf(t, out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, c := range map[string]struct {
		labels             string
		unlabelled, unused int64
	}{
		"a byte order mark":    {"\ufeffval_00000001.JPEG\tx\nval_00000002.JPEG\tx\n \t\nval_00000003.JPEG\ty\n", 0, 0},
		"folders in front":     {"data/val/val_00000001.JPEG\tx\ndata/val/val_00000002.JPEG\tx\ndata/val/val_00000003.JPEG\ty\n", 0, 0},
		"an archive in front":  {"val.tar@/val_00000001.JPEG\tx\nval.tar@/val_00000002.JPEG\tx\nval.tar@/val_00000003.JPEG\ty\n", 0, 0},
		"unknown names":        {"val_00000001.JPEG\tx\na\tx\nb\ty\n", 2, 2},
		"different folders":    {"a/val_00000001.JPEG\tx\nval_00000002.JPEG\tx\n", 2, 1},
		"numbers for some":     {"val_00000001.JPEG 3", 2, 0},
		"the same label twice": {"val_00000001.JPEG\tx\nval_00000001.JPEG\tx\n", 2, 0},
	} {
		_, report := shardInto(t, WriteConfig{In: val, Labels: put(t, "labels.txt", []byte(c.labels))})
		if report.Unlabelled != c.unlabelled || report.UnusedLabels != c.unused {
			t.Errorf("%s: %d are unlabelled and %d labels unused, want %d and %d", name, report.Unlabelled, report.UnusedLabels, c.unlabelled, c.unused)
		}
	}
	for labels, want := range map[string]string{
		"v\x00a\x00l\x00":         "line 1: holds a zero byte",
		"1\n2\n":                  "has 2 labels for 3 images",
		"1\n0\n2":                 "line 2: ",
		"nothing\tof this":        "none of its names",
		"":                        "has no labels",
		"1\nval_00000001.JPEG\tx": "line 2: some lines have a name",
		"val_00000001.JPEG\tx\nval_00000002.JPEG\t7": "some labels are numbers",
		"val_00000001.JPEG\t-1":                      "is not from 0",
		"val_00000001.JPEG\t9999999999":              "is not from 0",
		"val_00000001.JPEG\t1\nval_00000001.JPEG\t2": "has the label 1 and the label 2",
	} {
		_, _, err := Write(context.Background(), WriteConfig{In: val, Out: t.TempDir(), Labels: put(t, "labels.txt", []byte(labels))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("labels %q: error is %v, want %q in it", labels, err, want)
		}
	}
}

// TestZipOfSharedBytes has a zip's directory name the same bytes several times: a
// way to make a small file large.
func TestZipOfSharedBytes(t *testing.T) {
	data := zipOf(t, []member{{"c/a.png", picture(t, "png", 40, 40, 1)}, {"c/b.png", picture(t, "png", 8, 8, 2)}})
	// A record of the directory, from its signature to the end's.
	from := bytes.Index(data, []byte("PK\x01\x02"))
	end := bytes.Index(data, []byte("PK\x05\x06"))
	record := data[from : from+bytes.Index(data[from+4:], []byte("PK\x01\x02"))+4]
	for copies, fine := range map[int]bool{0: true, 1: false, 100: false} {
		var out []byte
		out = append(out, data[:end]...)
		for i := range copies {
			shared := bytes.Replace(record, []byte("c/a.png"), fmt.Appendf(nil, "%03d.png", i), 1)
			out = append(out, shared...)
		}
		tail := bytes.Clone(data[end:])
		binary.LittleEndian.PutUint16(tail[8:], uint16(2+copies))
		binary.LittleEndian.PutUint16(tail[10:], uint16(2+copies))
		binary.LittleEndian.PutUint32(tail[12:], uint32(end-from+copies*len(record)))
		out = append(out, tail...)
		_, _, err := Write(t.Context(), WriteConfig{In: put(t, "x.zip", out), Out: filepath.Join(t.TempDir(), "out")})
		if fine != (err == nil) || err != nil && !strings.Contains(err.Error(), "x.zip is damaged or cut short: its entries claim more bytes than it has") {
			t.Errorf("with %d more entries for one file's bytes: %v", copies, err)
		}
	}
}

// The published implementation keeps train.zip and, beside it, train_map.txt.
func TestZipWithAMap(t *testing.T) {
	p := picture(t, "jpeg", 3, 3, 1)
	for _, folder := range []string{"", "/", "train/", "train.zip@/"} {
		dir := tree(t, map[string][]byte{
			"train.zip":     zipOf(t, []member{{"n02/b.JPEG", p}, {"n01/a.JPEG", p}, {"n02/c.JPEG", p}}),
			"train_map.txt": []byte(folder + "n01/a.JPEG\t1\n" + folder + "n02/b.JPEG\t0\n" + folder + "n02/c.JPEG\t0\n" + folder + "n03/d.JPEG\t2\n"),
		})
		out, report := shardInto(t, WriteConfig{In: filepath.Join(dir, "train.zip")})
		want := map[string]string{"n01/a.JPEG": "1 n01", "n02/b.JPEG": "0 n02", "n02/c.JPEG": "0 n02"}
		if diff := cmp.Diff(want, classesOf(t, out)); diff != "" || report.UnusedLabels != 1 {
			t.Errorf("%q: %d labels unused; classes (-want +got):\n%s", folder, report.UnusedLabels, diff)
		}
	}
	// The zip may have folders that the map does not.
	dir := tree(t, map[string][]byte{
		"val.zip":     zipOf(t, []member{{"val/n02/b.JPEG", p}, {"val/n01/a.JPEG", p}}),
		"val_map.txt": []byte("n01/a.JPEG\tcat\nn02/b.JPEG\tdog\n"),
	})
	out, _ := shardInto(t, WriteConfig{In: filepath.Join(dir, "val.zip")})
	if diff := cmp.Diff(map[string]string{"val/n01/a.JPEG": "0 cat", "val/n02/b.JPEG": "1 dog"}, classesOf(t, out)); diff != "" {
		t.Errorf("folders in the zip (-want +got):\n%s", diff)
	}
}

func TestWebDatasetSamples(t *testing.T) {
	p := picture(t, "png", 3, 3, 1)
	in := put(t, "x.tar", tarOf(t, []member{
		{"0001.jpg", p}, {"0001.cls", []byte("7")}, {"0001.seg.png", p}, {"0001.json", []byte("{}")},
		{"0002.png", p}, {"0002.cls", []byte("0")}, {"a/0003.jpg", p},
		{"0004.JPEG", p}, {"0004.CLS", []byte("1")}, {"a/0005.jpeg", p}, {"a/0005.cls.txt", []byte("2\n")},
	}))
	out, report := shardInto(t, WriteConfig{In: in})
	want := map[string]string{"0001.jpg": "7 7", "0002.png": "0 0", "a/0003.jpg": "", "0004.JPEG": "1 1", "a/0005.jpeg": "2 a"}
	if diff := cmp.Diff(want, classesOf(t, out)); diff != "" || report.Skipped != 2 || report.Unlabelled != 1 {
		t.Errorf("report is %+v, classes (-want +got):\n%s", report, diff)
	}
}

// Every line of a list was meant to be an image.
func TestListOfWhatIsNotThere(t *testing.T) {
	in := tree(t, map[string][]byte{
		"a/1.png":  picture(t, "png", 3, 3, 1),
		"a/2.png":  picture(t, "png", 3, 3, 2),
		"a/text":   []byte("no image"),
		"list.txt": []byte("\ufeffa/1.png\na/2.png 5\n# a comment\na\n  \na/text\n"),
	})
	out, report := shardInto(t, WriteConfig{In: filepath.Join(in, "list.txt"), MaxBad: 1})
	if report.Rows != 1 || report.Rejected != 3 || report.Skipped != 1 {
		t.Errorf("report is %+v", report)
	}
	rejected, err := os.ReadFile(filepath.Join(out, rejectedName))
	if err != nil || !strings.Contains(string(rejected), `{"key":"a/2.png 5","reason":"there is no such file`) {
		t.Errorf("rejected.jsonl is %s (%v)", rejected, err)
	}
}

// Names are never paths to other places, whatever is in them.
func TestOddNames(t *testing.T) {
	p := picture(t, "png", 3, 3, 1)
	files := []member{{"/abs/a.png", p}, {"../../up/b.png", p}, {"c/./d/../e.png", p}, {"new\nline/\t.png", p}, {"x.jpg/f.JPG", p}, {"bad\xff/g.png", p}, {"h/empty.png", nil}, {"i/same.png", nil}, {"i/same.png", p}, {"-.png", p}}
	want := []string{"-.png", "abs/a.png", "c/e.png", "i/same.png", "new\nline/\t.png", "up/b.png", "x.jpg/f.JPG"}
	for name, data := range map[string][]byte{"tar": tarOf(t, files), "zip": zipOf(t, files)} {
		out, report := shardInto(t, WriteConfig{In: put(t, "x", data), MaxBad: 1})
		var got []string
		for _, r := range rows(t, out) {
			got = append(got, r.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" || report.Rejected != 3 {
			t.Errorf("%s: report is %+v, keys (-want +got):\n%s", name, report, diff)
		}
	}
}

func TestInputsWithTheSameKeys(t *testing.T) {
	p, q := picture(t, "png", 3, 3, 1), picture(t, "png", 3, 3, 2)
	a, b := put(t, "part-0.tar", tarOf(t, []member{{"cat/1.png", p}})), put(t, "part-1.tar.gz", gzipped(t, tarOf(t, []member{{"cat/1.png", q}})))
	out, _ := shardInto(t, WriteConfig{In: a, MoreIn: []string{b}})
	want := []row{{"part-0/cat/1.png", "0 cat", string(p)}, {"part-1/cat/1.png", "0 cat", string(q)}}
	if diff := cmp.Diff(want, rows(t, out)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	_, _, err := Write(context.Background(), WriteConfig{In: a, MoreIn: []string{a}, Out: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "both have part-0/cat/1.png") {
		t.Errorf("the same input twice: %v", err)
	}
}

func TestLinksAndCopiesInATar(t *testing.T) {
	p, q := picture(t, "png", 3, 3, 1), picture(t, "png", 3, 3, 2)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "a/1.png", Typeflag: tar.TypeReg, Size: int64(len(p))},
		{Name: "b/hard.png", Typeflag: tar.TypeLink, Linkname: "a/1.png"},
		{Name: "b/soft.png", Typeflag: tar.TypeSymlink, Linkname: "../b/hard.png"},
		{Name: "b/gone.png", Typeflag: tar.TypeSymlink, Linkname: "nowhere.png"},
		{Name: "b/folder", Typeflag: tar.TypeSymlink, Linkname: "../a"},
		{Name: "b/pipe.png", Typeflag: tar.TypeFifo},
		{Name: "a/1.png", Typeflag: tar.TypeReg, Size: int64(len(q))}, // appended later
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			data := p
			if buf.Len() > tarBlock*4 {
				data = q
			}
			if _, err := w.Write(data[:h.Size]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, report := shardInto(t, WriteConfig{In: put(t, "x.tar", buf.Bytes()), MaxBad: 1})
	want := []row{{"a/1.png", "0 a", string(q)}, {"b/hard.png", "1 b", string(q)}, {"b/soft.png", "1 b", string(q)}}
	if diff := cmp.Diff(want, rows(t, out)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if report.Rejected != 2 || report.Skipped != 2 {
		t.Errorf("report is %+v", report)
	}
}

func TestDamagedArchives(t *testing.T) {
	files := generatedTree(t, 1)
	plain, zipped := tarOf(t, files), zipOf(t, files)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"tar cut in a file":      {plain[:len(plain)/2+100], "is damaged or cut short"},
		"tar cut between files":  {plain[:len(plain)-2*tarBlock], "the mark of the end is missing"},
		"tar of a cut tar":       {tarOf(t, []member{{"n01.tar", plain[:len(plain)/2+100]}}), "n01.tar: "},
		"gzip cut":               {gzipped(t, plain)[:len(gzipped(t, plain))-9], "is damaged or cut short"},
		"zstd cut":               {zstandard(t, plain)[:len(zstandard(t, plain))-9], "is damaged or cut short"},
		"zip cut":                {zipped[:len(zipped)-30], "is damaged or cut short"},
		"nothing":                {nil, "is no tar, zip or list of paths"},
		"empty tar":              {tarOf(t, nil), "no images in"},
		"empty zip":              {zipOf(t, nil), "no images in"},
		"list of nothing useful": {[]byte("no such file.jpg\n"), "1 of 1"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		_, _, err := Write(context.Background(), WriteConfig{In: put(t, "x", c.data), Out: out})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
	}
	// One damaged file of a zip is that file's matter.
	at := bytes.Index(zipped, files[2].data)
	if at < 0 {
		t.Fatal("the third file of the zip is not stored as it is")
	}
	zipped[at+len(files[2].data)/2] ^= 1
	out, report := shardInto(t, WriteConfig{In: put(t, "x.zip", zipped), MaxBad: 1})
	rejected, err := os.ReadFile(filepath.Join(out, rejectedName))
	if err != nil || report.Rejected != 1 || !strings.Contains(string(rejected), "damaged in the zip: zip: checksum error") {
		t.Errorf("report is %+v, rejected %s (%v)", report, rejected, err)
	}
}

// Tars that were joined by other means than tar's own are read to their end.
func TestJoinedTars(t *testing.T) {
	files := generatedTree(t, 5)
	folder := map[string][]byte{}
	for _, f := range files {
		folder[f.name] = f.data
	}
	out, _ := shardInto(t, WriteConfig{In: tree(t, folder)})
	want := rows(t, out)
	a, b := tarOf(t, files[:5]), tarOf(t, files[5:])
	joined := slices.Concat(a, b)
	unmarked := a[:len(a)-2*tarBlock]
	zeros := make([]byte, 100*tarBlock+17)
	for name, data := range map[string][]byte{
		"two":                          joined,
		"two with zeros between them":  slices.Concat(a, zeros[:100*tarBlock], b),
		"two with zeros after them":    slices.Concat(joined, zeros),
		"an empty one first and last":  slices.Concat(tarOf(t, nil), joined, tarOf(t, nil)),
		"one block of zeros between":   slices.Concat(unmarked, zeros[:tarBlock], b),
		"one block of zeros at end":    joined[:len(joined)-tarBlock],
		"no mark between":              slices.Concat(unmarked, b),
		"two, gzip":                    gzipped(t, joined),
		"two gzip members":             slices.Concat(gzipped(t, a), gzipped(t, b)),
		"two gzip members of one tar":  slices.Concat(gzipped(t, joined[:700]), gzipped(t, joined[700:])),
		"two zstd frames":              slices.Concat(zstandard(t, a), zstandard(t, b)),
		"a zstd frame to skip between": slices.Concat(zstandard(t, a), []byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab"), zstandard(t, b)),
		"joined tars in tars":          slices.Concat(tarOfTars(t, files[:5]), tarOfTars(t, files[5:])),
	} {
		out, _ := shardInto(t, WriteConfig{In: put(t, "x", data)})
		if diff := cmp.Diff(want, rows(t, out)); diff != "" {
			t.Errorf("%s (-folder +tars):\n%s", name, diff)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"text after the mark":        {slices.Concat(a, []byte("the end")), fmt.Sprintf("at byte %d, is no tar: cut the file there if it is not needed (truncate -s %d)", len(a), len(a))},
		"text after zeros":           {slices.Concat(a, zeros, []byte("the end")), fmt.Sprintf("at byte %d, is no tar", len(a)+len(zeros))},
		"a second tar cut short":     {slices.Concat(a, b[:len(b)/2+100]), "is damaged or cut short"},
		"a second tar's header":      {slices.Concat(a, b[:tarBlock-1]), fmt.Sprintf("at byte %d, is no tar", len(a))},
		"text after the inner mark":  {tarOf(t, []member{{"n01.tar", slices.Concat(a, []byte("x"))}}), "n01.tar: what follows the mark of the end"},
		"gzip followed by something": {slices.Concat(gzipped(t, a), []byte("the end of it")), "what follows the compressed data"},
		"zstd followed by something": {slices.Concat(zstandard(t, a), []byte("the end of it")), "what follows the compressed data"},
	} {
		_, _, err := Write(context.Background(), WriteConfig{In: put(t, "x", c.data), Out: filepath.Join(t.TempDir(), "out")})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
	}
}

// A zip's claims about a file are that file's matter, too, and no memory is
// taken for them.
func TestZipThatClaimsOtherSizes(t *testing.T) {
	p := picture(t, "png", 9, 9, 1)
	var deflated bytes.Buffer
	d, err := flate.NewWriter(&deflated, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	compressed(t, d, &deflated, p)
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for name, size := range map[string]int{"right.png": len(p), "short.png": len(p) - 1, "long.png": len(p) + 1, "huge.png": maxImageBytes, "more.png": maxImageBytes + 1} {
		out, err := w.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(p), CompressedSize64: uint64(deflated.Len()), UncompressedSize64: uint64(size)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(deflated.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	in := put(t, "x.zip", buf.Bytes())
	allocatesLittle(t, buf.Bytes(), func() {
		out, report := shardInto(t, WriteConfig{In: in, MaxBad: 1, Workers: 1})
		if got := rows(t, out); len(got) != 1 || got[0].Key != "right.png" || report.Rejected != 4 {
			t.Errorf("rows are %+v, report is %+v", got, report)
		}
	})
}

// allocatesLittle runs what reads a small input, which must not make it take
// more than 64 MiB of memory altogether.
func allocatesLittle(t *testing.T, input []byte, run func()) {
	const small, most = 32 << 10, 64 << 20
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	run()
	metrics.Read(sample)
	if took := sample[0].Value.Uint64() - before; len(input) <= small && took > most {
		t.Errorf("an input of %d bytes made it allocate %d", len(input), took)
	}
}

// fuzzArchive lists and reads an input as Write does. Whatever it holds, that
// ends with files or errors, and a zip gives no more bytes than deflate can.
func fuzzArchive(f *testing.F, format string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	dir := f.TempDir()
	var runs atomic.Int64
	f.Fuzz(func(t *testing.T, data []byte) {
		// A new file every time: cutting an old one makes some systems flush.
		in := filepath.Join(dir, fmt.Sprintf("%d-%d", os.Getpid(), runs.Add(1)))
		if err := os.WriteFile(in, data, 0o666); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(in)
		allocatesLittle(t, data, func() { readAll(t, in, format, data) })
	})
}

// readAll lists and reads the input at path in, which holds data.
func readAll(t *testing.T, in, format string, data []byte) {
	cfg := WriteConfig{In: in, Format: format}
	cfg.setDefaults()
	s, err := ingest.Open(t.Context(), in, ingest.Options{Format: format, Scratch: in + ".tmp"})
	if err != nil {
		return
	}
	defer s.Close()
	l, err := listSources(t.Context(), &cfg, []ingest.Source{s})
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	memory := decoding.NewMemory(decodedBytes)
	ahead := newReadAhead(ctx, []ingest.Source{s}, l.files, 2, func() *examiner {
		return &examiner{check: CheckHeader, decoder: decoding.NewWorker(memory, decode.Limits{})}
	})
	defer ahead.wait()
	defer cancel()
	const most, slack = 1100, 64 << 10 // deflate's ratio
	for range l.files {
		j, err := ahead.next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if format == "zip" && len(j.data) > most*len(data)+slack {
			t.Errorf("%d bytes from an input of %d", len(j.data), len(data))
		}
		if j.Label < -1 || int(j.Label) >= len(l.classes) {
			t.Errorf("label %d of %d classes", j.Label, len(l.classes))
		}
		ahead.release(j)
	}
}

func FuzzTar(f *testing.F) {
	files := generatedTree(f, 3)[:6]
	fuzzArchive(f, "tar", tarOf(f, files), tarOfTars(f, files), gzipped(f, tarOf(f, files)), zstandard(f, tarOf(f, files)))
}

func FuzzZip(f *testing.F) {
	fuzzArchive(f, "zip", zipOf(f, generatedTree(f, 3)[:6]), gzipped(f, zipOf(f, generatedTree(f, 4)[:6])))
}

func FuzzWebDataset(f *testing.F) {
	fuzzArchive(f, "webdataset", tarOf(f, webDataset(generatedTree(f, 3)[:6])))
}

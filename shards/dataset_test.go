package shards

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

func TestSampleFromManyGoroutines(t *testing.T) {
	d := open(t, write(t, classTree(t, 90), 8<<10))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range d.Len() {
				i := (n*37 + int64(g)) % d.Len()
				s, err := d.Sample(i)
				if err != nil || s.Index != i {
					t.Errorf("sample %d: index %d, %v", i, s.Index, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestImagesAreTheCallers keeps an image until Forget, and beyond Close.
func TestImagesAreTheCallers(t *testing.T) {
	d := open(t, write(t, classTree(t, 6), 0))
	a, err := d.Sample(3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		d.Forget(s)
	}
	// Two, of the key and the pool's; the race detector makes pools drop a part of
	// what they get.
	if n := testing.AllocsPerRun(100, func() {
		var s Sample
		s, err = d.Sample(3)
		d.Forget(s)
	}); n > 3 || err != nil {
		t.Errorf("a sample takes %v allocations, error %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if sum := crc32.Checksum(a.Image, castagnoli); sum != a.CRC32C {
		t.Errorf("an image that was not forgotten has checksum %08x, want %08x", sum, a.CRC32C)
	}
}

func TestSampleOutOfRangeAndAfterClose(t *testing.T) {
	d, err := Open(write(t, classTree(t, 3), 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int64{-1, 3} {
		if _, err := d.Sample(i); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("no sample %d among 3", i)) {
			t.Errorf("sample %d: error is %v", i, err)
		}
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Sample(0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "pixpro shard --resume") {
		t.Errorf("no manifest: %v", err)
	}
	out := write(t, classTree(t, 40), 8<<10)
	name := shardName(1)
	path := filepath.Join(out, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-1], 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(out)
	wantCorrupt(t, err, name, -1, "the manifest says")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(out); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("missing shard: %v", err)
	}
}

// TestUnreadableMapIsAnError cuts the file under a memory map short, so that
// pages cannot be read. As it has another name by then, it is taken for one on a
// disk that fails.
func TestUnreadableMapIsAnError(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("cutting a mapped file, which stands for a failing disk, is refused or undefined outside of Linux")
	}
	in := tree(t, map[string][]byte{"a.png": picture(t, "png", 200, 200, 1), "b.png": picture(t, "png", 200, 200, 2)})
	for _, failing := range []bool{false, true} {
		out := write(t, in, 0)
		path := filepath.Join(out, shardName(0))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		d := open(t, out)
		if _, err := d.Sample(0); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 8192); err != nil {
			t.Fatal(err)
		}
		if failing {
			if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		_, err = d.Sample(1)
		if failing {
			var corrupt *CorruptError
			if !errors.Is(err, ErrUnreadable) || errors.As(err, &corrupt) || !strings.Contains(err.Error(), shardName(0)+": row 1 cannot be read") {
				t.Errorf("a row that the disk does not give: %v", err)
			}
			continue
		}
		var changed *ChangedError
		if !errors.As(err, &changed) || *changed != (ChangedError{shardName(0), info.Size(), 8192}) {
			t.Errorf("a file that was cut short gives %v", err)
		}
	}
}

func TestVerifyFindsNothingWrong(t *testing.T) {
	out := write(t, classTree(t, 40), 8<<10)
	var last VerifyProgress
	report, err := Verify(context.Background(), out, VerifyConfig{Deep: true, Listener: func(e Event) { last = e.(VerifyProgress) }})
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, out).Manifest()
	if report.Rows != 40 || report.Shards != len(m.Shards) || len(report.Faults) != 0 || report.Bytes != last.Bytes || last.Bytes != last.TotalBytes {
		t.Errorf("report is %+v, progress ended with %+v", report, last)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, out, VerifyConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestVerifyNamesEveryFault(t *testing.T) {
	out := write(t, classTree(t, 60), 6<<10)
	d := open(t, out)
	m := d.Manifest()
	if len(m.Shards) < 4 {
		t.Fatalf("%d shards are too few", len(m.Shards))
	}
	// A changed image byte, a missing shard, a shard cut short.
	second := m.Shards[0].Rows + 2
	s, err := d.Sample(second)
	if err != nil {
		t.Fatal(err)
	}
	key, image := s.Key, bytes.Clone(s.Image)
	path := filepath.Join(out, m.Shards[1].Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, image)+len(image)/2] ^= 0x40
	if err := errors.Join(
		os.WriteFile(path, data, 0o666),
		os.Remove(filepath.Join(out, m.Shards[2].Name)),
		os.Truncate(filepath.Join(out, m.Shards[3].Name), m.Shards[3].Bytes-9),
	); err != nil {
		t.Fatal(err)
	}
	report, err := Verify(context.Background(), out, VerifyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range report.Faults {
		reason, _, _ := strings.Cut(f.Reason, " ")
		got = append(got, fmt.Sprintf("%s %d %s %s", f.Shard, f.Row, f.Key, reason))
	}
	want := []string{
		m.Shards[1].Name + " -1  SHA-256",
		m.Shards[1].Name + " 2 " + key + " checksum",
		m.Shards[2].Name + " -1  is",
		m.Shards[3].Name + " -1  has",
		m.Shards[3].Name + " -1  SHA-256",
		m.Shards[3].Name + " -1  has",
		m.Shards[3].Name + " -1  not",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("faults are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Checksums are right, and the pixels cannot be decoded.
func TestVerifyDeep(t *testing.T) {
	out, _ := shardInto(t, WriteConfig{In: badAmongGood(t, 90, 2), ShardSize: 6 << 10})
	if report, err := Verify(context.Background(), out, VerifyConfig{}); err != nil || len(report.Faults) != 0 {
		t.Fatalf("not deep: %+v, %v", report, err)
	}
	report, err := Verify(context.Background(), out, VerifyConfig{Deep: true})
	if err != nil || len(report.Faults) != 2 {
		t.Fatalf("deep: %+v, %v", report, err)
	}
	for i, key := range []string{"c0/000.png", "c1/001.png"} {
		if f := report.Faults[i]; f.Key != key || f.Row < 0 || !strings.Contains(f.Reason, "decode: ") {
			t.Errorf("fault %d is %v, want one of %s", i, f, key)
		}
	}
}

// TestImageOfTooManyBytes has a shard of another writer with an image that sharding
// would have rejected.
func TestImageOfTooManyBytes(t *testing.T) {
	dir := t.TempDir()
	w, err := newShardWriter(atomicfile.OS, dir, shardName(0), newRowBatches())
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, maxImageBytes+1)
	copy(image, picture(t, "png", 3, 3, 1))
	for _, n := range []int{maxImageBytes, maxImageBytes + 1} {
		j := &job{File: ingest.File{Key: fmt.Sprint(n)}, data: image[:n], header: decode.Header{Format: "png", Width: 3, Height: 3}, crc: crc32.Checksum(image[:n], castagnoli)}
		if err := w.append(j); err != nil {
			t.Fatal(err)
		}
	}
	info, err := w.finish()
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Version: formatVersion, Classes: []string{"a"}, Rows: info.Rows, ImageBytes: info.ImageBytes, Shards: []ShardInfo{info}}
	if err := m.write(atomicfile.OS, dir); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	if _, err := d.Sample(0); err != nil {
		t.Error(err)
	}
	_, err = d.Sample(1)
	wantCorrupt(t, err, info.Name, 1, "the limit is")
	report, err := Verify(t.Context(), dir, VerifyConfig{Deep: true})
	if err != nil || len(report.Faults) != 1 || report.Faults[0].Row != 1 {
		t.Errorf("verified: %+v, %v", report, err)
	}
}

// Whatever byte of a shard is changed, verifying reports it, and a sample that
// can still be read has the image it had.
func TestEveryByteFlipped(t *testing.T) {
	in := tree(t, map[string][]byte{"a/1.png": picture(t, "png", 3, 3, 1), "b/2.jpg": picture(t, "jpeg", 2, 2, 2), "b/3.png": picture(t, "png", 2, 2, 3)})
	out := write(t, in, 0)
	d := open(t, out)
	var images [][]byte
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, bytes.Clone(s.Image))
	}
	path := filepath.Join(out, shardName(0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for pos := range data {
		data[pos] ^= 0xff
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		report, err := Verify(context.Background(), out, VerifyConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Faults) == 0 {
			t.Errorf("byte %d: not reported", pos)
		}
		flipped, err := Open(out)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range images {
			s, err := flipped.Sample(int64(i))
			var corrupt *CorruptError
			if err != nil && !errors.As(err, &corrupt) {
				t.Errorf("byte %d, sample %d: %v", pos, i, err)
			}
			if err == nil && !bytes.Equal(s.Image, want) {
				t.Errorf("byte %d: image %d is another one", pos, i)
			}
		}
		if err := flipped.Close(); err != nil {
			t.Fatal(err)
		}
		data[pos] ^= 0xff
	}
}

func TestManifestChecks(t *testing.T) {
	m := open(t, write(t, classTree(t, 40), 8<<10)).Manifest()
	for name, damage := range map[string]func(m *Manifest){
		"version":        func(m *Manifest) { m.Version = 2 },
		"no shards":      func(m *Manifest) { m.Shards = nil },
		"outside":        func(m *Manifest) { m.Shards[0].Name = "../x.arrow" },
		"absolute":       func(m *Manifest) { m.Shards[0].Name = "/x.arrow" },
		"backslash":      func(m *Manifest) { m.Shards[0].Name = `..\x.arrow` },
		"twice":          func(m *Manifest) { m.Shards[1].Name = m.Shards[0].Name },
		"negative rows":  func(m *Manifest) { m.Shards[0].Rows = -1 },
		"too many rows":  func(m *Manifest) { m.Shards[0].Rows = m.Shards[0].Bytes + 1 },
		"short digest":   func(m *Manifest) { m.Shards[0].SHA256 = "ab" },
		"digest no hex":  func(m *Manifest) { m.Shards[0].SHA256 = strings.Repeat("g", 64) },
		"wrong total":    func(m *Manifest) { m.Rows++ },
		"total overflow": func(m *Manifest) { m.Shards[0].Rows, m.Shards[1].Rows = 1<<62, 1<<62 },
	} {
		bad := m
		bad.Shards = append([]ShardInfo(nil), m.Shards...)
		damage(&bad)
		data, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A manifest as the first release wrote it, and one with fields of later ones.
func TestManifestsOfOtherReleases(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	first := `{"version": 1, "classes": ["cat"], "rows": 2, "image_bytes": 9, "shards": [
		{"name": "shard-00000.arrow", "rows": 2, "image_bytes": 9, "bytes": 100, "sha256": "` + sum + `"}]`
	for _, data := range []string{first + "}", first + `, "of_the_future": {"a": [1]}}`} {
		m, err := parseManifest([]byte(data))
		if err != nil || m.Rows != 2 || m.Order != "" || m.MaxSide != 0 {
			t.Errorf("%s: %+v, %v", data, m, err)
		}
	}
}

// Metadata that says it is longer than it is must not be read on into what
// lies behind it in the file.
func TestMetadataEndsWhereItEnds(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	name := b.CreateString("name")
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, name, 0)
	b.Finish(b.EndObject())
	file := append(bytes.Clone(b.FinishedBytes()), make([]byte, 1<<16)...)
	meta := file[:len(b.FinishedBytes())]
	read := func() (s string, err error) {
		err = guard(func() error {
			root := fbRoot(meta)
			s = root.string(0)
			return nil
		})
		return s, err
	}
	if s, err := read(); s != "name" || err != nil {
		t.Errorf("reads %q, %v", s, err)
	}
	binary.LittleEndian.PutUint32(meta[bytes.Index(meta, []byte("name"))-4:], 1<<10)
	if s, err := read(); err == nil {
		t.Errorf("reads %d bytes of %d", len(s), len(meta))
	}
}

func FuzzParseManifest(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(write(f, classTree(f, 9), 1), manifestName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"rows":1,"shards":[{"name":"..","rows":1,"bytes":1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		var err error
		allocatesLittle(t, data, func() { m, err = parseManifest(data) })
		if err != nil {
			return
		}
		var rows int64
		for _, s := range m.Shards {
			rows += s.Rows
			if filepath.Base(s.Name) != s.Name {
				t.Errorf("accepted the name %q", s.Name)
			}
		}
		if rows != m.Rows {
			t.Errorf("accepted %d rows in shards of %d", m.Rows, rows)
		}
	})
}

// Whatever a shard file holds, reading it ends with samples or errors.
func FuzzShardFile(f *testing.F) {
	for _, n := range []int{1, 70} {
		data, err := os.ReadFile(filepath.Join(write(f, classTree(f, n), 0), shardName(0)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		allocatesLittle(t, data, func() { readShard(t, data) })
	})
}

func readShard(t *testing.T, data []byte) {
	var file *shardFile
	if err := guard(func() (err error) { file, err = parseShard(data, nil); return err }); err != nil {
		return
	}
	rows := int64(0)
	for i := range file.blocks {
		err := guard(func() error {
			b, err := file.batch(i)
			if err != nil {
				return err
			}
			for row := range int(b.rows) {
				if s, err := b.sample(row, file.formats, 2); err == nil && len(s.Image) > len(data) {
					t.Errorf("an image of %d bytes in a file of %d", len(s.Image), len(data))
				}
			}
			rows += b.rows
			return nil
		})
		if err != nil {
			t.Errorf("a record batch that was read at first fails later: %v", err)
		}
	}
	if rows != file.rows {
		t.Errorf("%d rows, then %d", file.rows, rows)
	}
}

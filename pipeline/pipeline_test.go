package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/shards"
)

var rowsEqual = cmp.AllowUnexported(row{})

func TestEpochIsAPermutation(t *testing.T) {
	d := dataset(t, 23)
	cfg := config(t, d)
	cfg.Epochs, cfg.KeepLast = 2, true
	p := checked(t, context.Background(), cfg)
	if p.BatchesPerEpoch() != 6 || p.PairsPerEpoch() != 23 {
		t.Errorf("an epoch has %d batches and %d pairs", p.BatchesPerEpoch(), p.PairsPerEpoch())
	}
	rows := flat(batchesOf(t, p))
	if len(rows) != 46 {
		t.Fatalf("%d rows in two epochs of 23", len(rows))
	}
	var orders [2][]int64
	for i, r := range rows {
		s, err := d.Sample(r.index)
		if err != nil {
			t.Fatal(err)
		}
		if r.key != s.Key || r.label != s.Label {
			t.Errorf("row %d says %s, label %d; the dataset %s, label %d", i, r.key, r.label, s.Key, s.Label)
		}
		orders[i/23] = append(orders[i/23], r.index)
	}
	if slices.Equal(orders[0], orders[1]) {
		t.Error("both epochs have the same order")
	}
	for epoch, order := range orders {
		slices.Sort(order)
		for i, index := range order {
			if index != int64(i) {
				t.Fatalf("epoch %d lacks sample %d", epoch, i)
			}
		}
	}
	// The same image gets other views in another epoch.
	slices.SortFunc(rows, func(a, b row) int { return int(a.index - b.index) })
	for i := 0; i < len(rows); i += 2 {
		if rows[i].digest == rows[i+1].digest {
			t.Errorf("sample %d has the same views twice", rows[i].index)
		}
	}
}

func TestOrderNoneIsAsStored(t *testing.T) {
	cfg := config(t, dataset(t, 10))
	cfg.Shuffle = ShuffleNone
	var got []int64
	for _, r := range flat(batchesOf(t, checked(t, context.Background(), cfg))) {
		got = append(got, r.index)
	}
	if want := []int64{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
		t.Errorf("order is %v, want %v", got, want)
	}
}

func TestSameBytesForAnyNumberOfWorkers(t *testing.T) {
	d := dataset(t, 30, 3, 17)
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleNone, ShuffleWindow(7)} {
		var want string
		for _, workers := range []int{1, 2, 5, 16} {
			cfg := config(t, d)
			cfg.Workers, cfg.Epochs, cfg.Shuffle = workers, 3, shuffle
			got := streamDigest(t, checked(t, context.Background(), cfg))
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s, %d workers: SHA-256 is %s, with one it is %s", shuffle, workers, got, want)
			}
		}
	}
}

func TestResumeGivesTheRest(t *testing.T) {
	for _, keepLast := range []bool{false, true} {
		cfg := config(t, dataset(t, 22, 6))
		cfg.Epochs, cfg.KeepLast = 3, keepLast
		p := checked(t, context.Background(), cfg)
		var whole [][]row
		positions := []Position{p.Position()}
		for p.Next() {
			whole = append(whole, rowsOf(t, p.Record()))
			positions = append(positions, p.Position())
		}
		if last := positions[len(positions)-1]; last != (Position{Epoch: 3}) {
			t.Errorf("the stream ended at %+v", last)
		}
		for n, pos := range positions {
			cfg.Start = pos
			got := batchesOf(t, checked(t, context.Background(), cfg))
			if diff := cmp.Diff(whole[n:], got, rowsEqual, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("from %+v (-rest +got):\n%s", pos, diff)
			}
		}
	}
}

// Within a batch, a stream starts with the rest of that batch.
func TestResumeAtAnySample(t *testing.T) {
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleNone, ShuffleWindow(5)} {
		cfg := config(t, dataset(t, 14))
		cfg.Epochs, cfg.Shuffle = 2, shuffle
		rows := flat(batchesOf(t, checked(t, context.Background(), cfg)))
		for offset := range int64(14) {
			cfg.Start = Position{Offset: offset}
			got := batchesOf(t, checked(t, context.Background(), cfg))
			if diff := cmp.Diff(rows[min(offset, 12):], flat(got), rowsEqual); diff != "" {
				t.Errorf("%s from offset %d (-rest +got):\n%s", shuffle, offset, diff)
			}
			if first := 4 - int(offset%4); offset < 12 && len(got[0]) != first {
				t.Errorf("%s from offset %d: the first batch has %d pairs, want %d", shuffle, offset, len(got[0]), first)
			}
		}
	}
}

// A stream that is stopped after any number of pairs and resumed where it was
// gives, in both pieces, the bytes of the unbroken one, bad samples or not.
func TestStopAndResumeAtRandomPlaces(t *testing.T) {
	d := dataset(t, 61, 4, 40)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleWindow(20)} {
		cfg := config(t, d)
		cfg.Epochs, cfg.KeepLast, cfg.Shuffle = 2, true, shuffle
		want := digest(flat(batchesOf(t, checked(t, context.Background(), cfg))))
		for range 20 {
			cut := 1 + rng.Int64N(2*59-1)
			first := cfg
			first.Limit, first.Workers = cut, 1+rng.IntN(5)
			p := checked(t, context.Background(), first)
			rows := flat(batchesOf(t, p))
			second := cfg
			second.Start, second.Workers = p.Position(), 1+rng.IntN(5)
			rows = append(rows, flat(batchesOf(t, checked(t, context.Background(), second)))...)
			if got := digest(rows); got != want {
				t.Errorf("%s, stopped after %d pairs: SHA-256 is %s, unbroken %s", shuffle, cut, got, want)
			}
		}
	}
}

func TestRanksInterleaveToTheWholeEpoch(t *testing.T) {
	const samples = 25
	d := dataset(t, samples)
	for _, shuffle := range []Shuffle{ShuffleFull, ShuffleNone, ShuffleWindow(9)} {
		for _, keepLast := range []bool{false, true} {
			cfg := config(t, d)
			cfg.BatchSize, cfg.KeepLast, cfg.Shuffle = 1, true, shuffle
			whole := flat(batchesOf(t, checked(t, context.Background(), cfg)))
			cfg.KeepLast = keepLast
			for _, world := range []int{1, 2, 3} {
				length := samples / world * world
				if keepLast {
					length = samples // the first ranks have a sample more
				}
				got := make([]row, length)
				for rank := range world {
					cfg.Rank, cfg.World = rank, world
					rows := flat(batchesOf(t, checked(t, context.Background(), cfg)))
					for i, r := range rows {
						got[i*world+rank] = r
					}
					if want := (length - rank + world - 1) / world; len(rows) != want {
						t.Errorf("rank %d of %d has %d pairs, want %d", rank, world, len(rows), want)
					}
				}
				if digest(got) != digest(whole[:length]) {
					t.Errorf("%s, world %d, keep last %t: the ranks do not interleave to the epoch", shuffle, world, keepLast)
				}
			}
		}
	}
}

// A bad sample is left out, and everything else is as it was.
func TestBadSampleInABatch(t *testing.T) {
	const n, bad = 16, 5
	cfg := config(t, dataset(t, n))
	want := batchesOf(t, checked(t, context.Background(), cfg))
	place := -1
	for i, b := range want {
		for j, r := range b {
			if r.index == bad {
				place, want[i] = i, slices.Delete(b, j, j+1)
				break
			}
		}
	}
	for _, workers := range []int{1, 3} {
		var events []string
		cfg.Dataset = dataset(t, n, bad)
		cfg.Workers = workers
		cfg.Listener = func(e Event) {
			switch e := e.(type) {
			case BadSample:
				events = append(events, fmt.Sprintf("epoch %d, index %d, %s, %t", e.Epoch, e.Index, e.Key, e.Err != nil))
			case EpochEnd:
				events = append(events, fmt.Sprintf("end of epoch %d, %d bad, %d pairs", e.Epoch, e.Bad, e.Stats.Pairs))
			}
		}
		p := checked(t, context.Background(), cfg)
		got := batchesOf(t, p)
		if diff := cmp.Diff(want, got, rowsEqual); diff != "" || place < 0 {
			t.Errorf("%d workers, batch %d (-without the bad one +got):\n%s", workers, place, diff)
		}
		if want := []string{"epoch 0, index 5, class0/0005.jpg, true", "end of epoch 0, 1 bad, 15 pairs"}; !slices.Equal(events, want) {
			t.Errorf("%d workers: events are %q, want %q", workers, events, want)
		}
		if s := p.Stats(); s.Bad != 1 || s.Pairs != n-1 || s.Batches != 4 {
			t.Errorf("%d workers: %+v", workers, s)
		}
	}
}

// With one file in a hundred cut short, every one is reported, once an epoch
// and in the same order, and the bytes are those of any number of workers.
func TestTruncatedFilesAreDeterministic(t *testing.T) {
	cut := []int{13, 170}
	d := dataset(t, 200, cut...)
	var wantEvents []string
	var want string
	for _, workers := range []int{1, 2, 5, 16} {
		cfg := config(t, d)
		cfg.Epochs, cfg.Workers, cfg.KeepLast = 2, workers, true
		var events []string
		reported := map[Position]bool{}
		cfg.Listener = func(e Event) {
			events = append(events, strings.Split(fmt.Sprint(e), ";")[0]) // without the speed
			if bad, ok := e.(BadSample); ok {
				reported[Position{Epoch: bad.Epoch, Offset: bad.Index}] = true
			}
		}
		got := streamDigest(t, checked(t, context.Background(), cfg))
		if want == "" {
			want, wantEvents = got, events
		}
		if got != want || !slices.Equal(events, wantEvents) {
			t.Errorf("%d workers: SHA-256 %s and events %q; with one %s and %q", workers, got, events, want, wantEvents)
		}
		for epoch := range int64(2) {
			for _, row := range cut {
				if !reported[Position{Epoch: epoch, Offset: int64(row)}] {
					t.Errorf("%d workers: sample %d was not reported in epoch %d", workers, row, epoch)
				}
			}
		}
		if len(events) != 6 { // two bad samples and the end of two epochs
			t.Errorf("%d workers: events %q", workers, events)
		}
	}
}

func TestTooManyBadSamplesEndTheStream(t *testing.T) {
	var cut []int
	for i := range 40 {
		if i%3 == 0 {
			cut = append(cut, i)
		}
	}
	d := dataset(t, 40, cut...)
	for _, c := range []struct {
		name    string
		maxBad  float64
		wantBad int64 // 0: no error
	}{
		{"default", 0, minBad + 1},
		{"none", -1, 1},
		{"half", 0.5, 0},
		{"a quarter", 0.25, 11},
	} {
		cfg := config(t, d)
		cfg.MaxBad = c.maxBad
		p := checked(t, context.Background(), cfg)
		for p.Next() {
		}
		var tooMany *TooManyBadError
		switch {
		case c.wantBad == 0:
			if p.Err() != nil {
				t.Errorf("%s: %v", c.name, p.Err())
			}
		case !errors.As(p.Err(), &tooMany):
			t.Errorf("%s: error is %v", c.name, p.Err())
		case tooMany.Bad != c.wantBad || tooMany.Samples != 40 || tooMany.Last.Err == nil:
			t.Errorf("%s: %+v", c.name, *tooMany)
		}
		if p.Next() {
			t.Errorf("%s: the stream went on", c.name)
		}
	}
}

// TestBadSamplesCountAfterAResume stops a stream after every batch: the epoch
// has as many bad samples as in one that is not stopped, no more and no fewer.
func TestBadSamplesCountAfterAResume(t *testing.T) {
	cfg := config(t, dataset(t, 40, 1, 2, 3, 11, 12, 21, 22, 23, 31, 32, 33, 34))
	cfg.MaxBad, cfg.Epochs, cfg.KeepLast = 0.29, 2, true // 11: one too few
	whole := checked(t, context.Background(), cfg)
	for whole.Next() {
	}
	var want *TooManyBadError
	if !errors.As(whole.Err(), &want) || want.Bad != 12 {
		t.Fatalf("without a stop: %v", whole.Err())
	}
	stops, bad := 0, int64(0)
	for {
		cfg.Limit = 1 // a pair
		p := checked(t, context.Background(), cfg)
		for p.Next() {
		}
		var got *TooManyBadError
		if errors.As(p.Err(), &got) {
			if diff := cmp.Diff(*want, *got, cmpopts.IgnoreFields(BadSample{}, "Err")); diff != "" {
				t.Errorf("after %d stops (-unbroken +stopped):\n%s", stops, diff)
			}
			break
		}
		if p.Err() != nil || p.Position().Epoch > 0 {
			t.Fatalf("after %d stops at %+v: %v", stops, p.Position(), p.Err())
		}
		cfg.Start = p.Position()
		if cfg.Start.Bad < bad || cfg.Start.Bad > cfg.Start.Offset {
			t.Fatalf("after %d stops at %+v, before that with %d bad", stops, cfg.Start, bad)
		}
		bad = cfg.Start.Bad
		stops++
	}
	if stops < 10 {
		t.Errorf("only %d stops", stops)
	}
}

// TestUnreadableShardEndsTheStream cuts shards short while they are read, or has
// them be on a disk that fails. That is no bad image: the stream ends with one
// sentence, and goes on behind what it gave when the files are whole again.
func TestUnreadableShardEndsTheStream(t *testing.T) {
	t.Run("changed", func(t *testing.T) { unreadableShard(t, false) })
	t.Run("failing", func(t *testing.T) { unreadableShard(t, true) })
}

func unreadableShard(t *testing.T, failing bool) {
	if runtime.GOOS != "linux" {
		t.Skip("cutting a mapped file is refused or undefined outside of Linux")
	}
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "shards")
	for i := range 60 {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%02d.jpg", i)), picture(t, 200, 150, uint64(2*i)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: in, Out: out, ShardSize: 200 << 10}); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(out, "*.arrow"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("shards %v (%v), want several", paths, err)
	}
	d, err := shards.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // behind the pipelines' own
	cfg := config(t, d)
	cfg.Epochs = 0
	whole := flat(batchesOf(t, checked(t, context.Background(), limited(cfg, 200))))
	cfg.Listener = func(e Event) {
		if bad, ok := e.(BadSample); ok {
			t.Errorf("counted as a bad image: %v", bad)
		}
	}
	p := checked(t, context.Background(), cfg)
	var rows []row
	for n := 0; n < 20 && p.Next(); n++ { // all shards are mapped then
		rows = append(rows, rowsOf(t, p.Record())...)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		mapped := path
		if failing { // nobody has written to what has the name
			mapped += ".old"
			if err := errors.Join(os.Rename(path, mapped), os.WriteFile(path, nil, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(mapped, int64(len(files[path])/2)); err != nil {
			t.Fatal(err)
		}
	}
	for p.Next() {
		rows = append(rows, rowsOf(t, p.Record())...)
	}
	var changed *shards.ChangedError
	switch err := p.Err(); {
	case failing && !errors.Is(err, shards.ErrUnreadable), !failing && !errors.As(err, &changed):
		t.Fatalf("the stream ends with %v", err)
	case strings.Contains(err.Error(), "runtime"):
		t.Error(err)
	case !failing:
		path := filepath.Join(out, changed.Shard)
		if n := int64(len(files[path])); changed.Then != n || changed.Now != n/2 {
			t.Errorf("%v, of %d bytes", err, n)
		}
	}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	again, err := shards.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	cfg.Dataset, cfg.Start = again, p.Position()
	rows = append(rows, flat(batchesOf(t, checked(t, context.Background(), limited(cfg, 200-int64(len(rows))))))...)
	if digest(rows) != digest(whole) {
		t.Error("resumed on the whole files, the stream is not that of an unbroken one")
	}
}

// limited is a stream that ends after n pairs.
func limited(cfg Config, n int64) Config {
	cfg.Limit = n
	return cfg
}

// TestNoReadableSampleEndsTheStream keeps a stream without an end from going
// through the same bad samples for ever.
func TestNoReadableSampleEndsTheStream(t *testing.T) {
	for _, maxBad := range []float64{0, 1} {
		cfg := config(t, dataset(t, 5, 0, 1, 2, 3, 4))
		cfg.MaxBad, cfg.Epochs, cfg.Limit, cfg.KeepLast = maxBad, 0, 10, true
		p := checked(t, context.Background(), cfg)
		var tooMany *TooManyBadError
		if p.Next() || !errors.As(p.Err(), &tooMany) || tooMany.Bad != 5 || tooMany.Samples != 5 {
			t.Errorf("MaxBad %g: error is %v", maxBad, p.Err())
		}
	}
}

// A batch of which no pair is left does not appear.
func TestBatchOfBadSamplesOnly(t *testing.T) {
	cfg := config(t, dataset(t, 12, 4, 5, 6, 7))
	cfg.Shuffle = ShuffleNone
	p := checked(t, context.Background(), cfg)
	var got []int64
	for _, r := range flat(batchesOf(t, p)) {
		got = append(got, r.index)
	}
	if want := []int64{0, 1, 2, 3, 8, 9, 10, 11}; !slices.Equal(got, want) || p.Stats().Batches != 2 {
		t.Errorf("rows are %v in %d batches", got, p.Stats().Batches)
	}
}

func TestLimitCountsPairs(t *testing.T) {
	d := dataset(t, 16, 2)
	cfg := config(t, d)
	cfg.Epochs = 0
	cfg.Limit = 100
	all := flat(batchesOf(t, checked(t, context.Background(), cfg)))
	if len(all) != 100 {
		t.Fatalf("%d pairs, want 100", len(all))
	}
	for _, limit := range []int64{1, 4, 6, 15, 16, 17} {
		cfg.Limit, cfg.Start = limit, Position{}
		p := checked(t, context.Background(), cfg)
		got := flat(batchesOf(t, p))
		if diff := cmp.Diff(all[:limit], got, rowsEqual); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
		cfg.Start, cfg.Limit = p.Position(), 100-limit
		got = flat(batchesOf(t, checked(t, context.Background(), cfg)))
		if diff := cmp.Diff(all[limit:], got, rowsEqual); diff != "" {
			t.Errorf("continued after limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

// Decoding at a part of the size changes pixels a little, and nothing else.
func TestScaledDecodeChangesOnlyPixels(t *testing.T) {
	var photo bytes.Buffer
	m := image.NewRGBA(image.Rect(0, 0, 400, 300))
	for i := range m.Pix {
		m.Pix[i] = uint8(i / 16)
	}
	if err := jpeg.Encode(&photo, m, nil); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, copies(t, photo.Bytes(), 12))
	cfg.Size, cfg.BatchSize = 16, 12
	next := func() *Batch {
		p := checked(t, context.Background(), cfg)
		if !p.Next() {
			t.Fatal(p.Err())
		}
		b, err := NewBatch(p.Record())
		if err != nil {
			t.Fatal(err)
		}
		return &b
	}
	whole := next()
	cfg.ScaledDecode = true
	scaled := next()
	different, sum := 0, 0
	for v := range 2 {
		for i := range 12 {
			if whole.Params(v, i) != scaled.Params(v, i) {
				t.Errorf("row %d, view %d: other parameters", i, v)
			}
		}
		if !slices.Equal(whole.Coords(v), scaled.Coords(v)) {
			t.Errorf("view %d: other coordinates", v)
		}
		for i, x := range whole.Views(v) {
			if d := int(x) - int(scaled.Views(v)[i]); d != 0 {
				different, sum = different+1, sum+max(d, -d)
			}
		}
	}
	if turbo := decode.JPEG() != "Go image/jpeg"; turbo != (different > 0) {
		t.Errorf("%d pixels differ, decoding by %s", different, decode.JPEG())
	}
	if mean := float64(sum) / float64(2*len(whole.Views(0))); mean > 10 {
		t.Errorf("pixels differ by %.1f on average", mean)
	}
}

// The parameters in a record are all that it takes to make its views again.
func TestViewsCanBeMadeAgain(t *testing.T) {
	d := dataset(t, 12)
	cfg := config(t, d)
	p := checked(t, context.Background(), cfg)
	var decoder decode.Decoder
	var image augment.Image
	var scratch augment.Scratch
	pixels := 3 * cfg.Size * cfg.Size
	view := augment.Planes{Width: cfg.Size, Height: cfg.Size, Pix: make([]uint8, pixels)}
	for p.Next() {
		b, err := NewBatch(p.Record())
		if err != nil {
			t.Fatal(err)
		}
		for i, index := range b.Index() {
			s, err := d.Sample(index)
			if err != nil {
				t.Fatal(err)
			}
			if err := decoder.Decode(s.Image, &image); err != nil {
				t.Fatal(err)
			}
			for v := range 2 {
				params := b.Params(v, i)
				params.Apply(view, image, &scratch)
				if !bytes.Equal(view.Pix, b.Views(v)[i*pixels:(i+1)*pixels]) {
					t.Errorf("sample %d: view %d is another one when made from %+v", index, v+1, params)
				}
				if coord := params.Coord(image.Width, image.Height); !slices.Equal(coord[:], b.Coords(v)[4*i:4*i+4]) {
					t.Errorf("sample %d: coordinates of view %d are %v, made again %v", index, v+1, b.Coords(v)[4*i:4*i+4], coord)
				}
			}
		}
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
}

func TestRecordsSurviveAnIPCStream(t *testing.T) {
	cfg := config(t, dataset(t, 12))
	var stream bytes.Buffer
	p := checked(t, context.Background(), cfg)
	w := ipc.NewWriter(&stream, ipc.WithSchema(p.Schema()))
	var want [][]row
	for p.Next() {
		want = append(want, rowsOf(t, p.Record()))
		if err := w.Write(p.Record()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&stream)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Schema().Equal(p.Schema()) {
		t.Errorf("schema is %v, was %v", r.Schema(), p.Schema())
	}
	view1, _ := r.Schema().FieldsByName("view1")
	for key, want := range map[string]string{
		"ARROW:extension:name":     "arrow.fixed_shape_tensor",
		"ARROW:extension:metadata": `{"shape":[3,8,8],"dim_names":["C","H","W"]}`,
	} {
		if got, _ := view1[0].Metadata.GetValue(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	metadata := r.Schema().Metadata()
	for key, want := range map[string]string{
		MetaVersion: "1",
		MetaSeed:    "7",
		MetaMean:    "[0.485,0.456,0.406]",
		MetaStd:     "[0.229,0.224,0.225]",
	} {
		if got, _ := metadata.GetValue(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got, _ := metadata.GetValue(MetaRecipe); !strings.Contains(got, "byol") {
		t.Errorf("the recipe is %q", got)
	}
	var got [][]row
	for r.Next() {
		got = append(got, rowsOf(t, r.Record()))
		// A slice of a record is a batch, too.
		slice := r.Record().NewSlice(1, 3)
		defer slice.Release()
		if diff := cmp.Diff(got[len(got)-1][1:3], rowsOf(t, slice), rowsEqual); diff != "" {
			t.Errorf("slice (-rows +slice):\n%s", diff)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if diff := cmp.Diff(want, got, rowsEqual); diff != "" {
		t.Errorf("rows (-written +read):\n%s", diff)
	}
}

// Whatever the consumer does, there are no more batches than it asked for.
func TestSlowConsumerBoundsMemory(t *testing.T) {
	cfg := config(t, dataset(t, 40))
	cfg.Batches, cfg.Workers = 3, 2
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	cfg.Allocator = mem
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var held []arrow.Record
	hold := func() {
		if !p.Next() {
			t.Fatal(p.Err())
		}
		p.Record().Retain()
		held = append(held, p.Record())
	}
	hold()
	hold()
	// The third slab is being filled or full, and there is no fourth.
	if n := cap(p.pool.free); n != 3 {
		t.Errorf("the pool has %d slabs", n)
	}
	views := held[0].Column(colView).(*array.FixedSizeList).ListValues().(*array.Uint8).Uint8Values()
	first := bytes.Clone(views)
	for range 20 {
		if !p.Next() {
			break
		}
	}
	if !bytes.Equal(views, first) {
		t.Error("a record that was retained changed")
	}
	if limit := 3*2*4*3*8*8 + 64<<10; mem.CurrentAlloc() > limit {
		t.Errorf("%d bytes are in use, want at most %d", mem.CurrentAlloc(), limit)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(views, first) {
		t.Error("a record that was retained did not survive Close")
	}
	for _, rec := range held {
		rec.Release()
	}
	if mem.CurrentAlloc() != 0 {
		t.Errorf("%d bytes are left", mem.CurrentAlloc())
	}
}

func TestStopping(t *testing.T) {
	d := dataset(t, 20)
	cfg := config(t, d)
	cfg.Epochs = 0

	t.Run("before the first batch", func(t *testing.T) {
		checked(t, context.Background(), cfg)
	})
	t.Run("between batches", func(t *testing.T) {
		p := checked(t, context.Background(), cfg)
		for range 3 {
			if !p.Next() {
				t.Fatal(p.Err())
			}
		}
		p.Retain()
		p.Release()
		if !p.Next() {
			t.Error("closed by a reference that was not the last")
		}
		p.Release()
		if p.Next() || !errors.Is(p.Err(), os.ErrClosed) {
			t.Errorf("after Close: %v", p.Err())
		}
	})
	t.Run("by cancellation", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		p := checked(t, ctx, cfg)
		if !p.Next() {
			t.Fatal(p.Err())
		}
		cancel()
		for p.Next() {
		}
		if !errors.Is(p.Err(), context.Canceled) {
			t.Errorf("error is %v", p.Err())
		}
	})
	t.Run("while the consumer waits", func(t *testing.T) {
		cfg := cfg
		cfg.Batches = 1
		p := checked(t, context.Background(), cfg)
		if !p.Next() {
			t.Fatal(p.Err())
		}
		rec := p.Record()
		rec.Retain() // the only slab: the next batch never comes
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for p.Next() {
			}
		}()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		rec.Release()
	})
	t.Run("by an error", func(t *testing.T) {
		cfg := cfg
		closed := dataset(t, 8)
		cfg.Dataset = closed
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		p := checked(t, context.Background(), cfg)
		if p.Next() || !errors.Is(p.Err(), os.ErrClosed) {
			t.Errorf("error is %v", p.Err())
		}
	})
}

func TestStatsCountWhatWasDone(t *testing.T) {
	cfg := config(t, dataset(t, 20))
	cfg.Workers = 3
	p := checked(t, context.Background(), cfg)
	batchesOf(t, p)
	s := p.Stats()
	if s.Pairs != 20 || s.Batches != 5 || s.Bad != 0 || s.Workers != 3 {
		t.Errorf("%+v", s)
	}
	if s.Read <= 0 || s.Decode <= 0 || s.Views <= 0 || s.Batch <= 0 || s.Elapsed < s.ConsumerWait || s.PairsPerSecond() <= 0 {
		t.Errorf("a time is missing: %+v", s)
	}
	if s.ReadQueue.Cap != 3 || s.ViewQueue.Cap != 3 || s.BatchQueue.Cap != defaultBatches || s.ViewQueue.Mean() > 3 || s.BatchQueue.Mean() > defaultBatches {
		t.Errorf("queues: %+v, %+v, %+v", s.ReadQueue, s.ViewQueue, s.BatchQueue)
	}
	if same := p.Stats().Since(s); same.Pairs != 0 || same.Decode != 0 || same.ConsumerWait != 0 || same.ViewQueue.Mean() != 0 {
		t.Errorf("nothing was done since, yet %+v", same)
	}
}

func TestBottleneckIsWhatOthersWaitFor(t *testing.T) {
	for want, s := range map[Stage]Stats{
		StageConsumer: {Decode: 9, BatchWait: 5, ConsumerWait: 1, WorkersWait: 20},
		StageRead:     {Read: 30, Decode: 2, Views: 3, WorkersWait: 6, ConsumerWait: 9},
		StageDecode:   {Decode: 4, Views: 3, WorkersWait: 1, ReadersWait: 9, ConsumerWait: 9},
		StageViews:    {Decode: 3, Views: 4, WorkersWait: 1, ReadersWait: 9, ConsumerWait: 9},
	} {
		if got := s.Bottleneck(); got != want {
			t.Errorf("the bottleneck of %+v is %s, want %s", s, got, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	d := dataset(t, 10)
	for want, change := range map[string]func(c *Config){
		"Dataset is missing":          func(c *Config) { c.Dataset = nil },
		"Size is 0":                   func(c *Config) { c.Size = 0 },
		"Size is 9000":                func(c *Config) { c.Size = 9000 },
		"BatchSize is 0":              func(c *Config) { c.BatchSize = 0 },
		`Shuffle is "windows"`:        func(c *Config) { c.Shuffle = "windows" },
		`Shuffle is "window:0"`:       func(c *Config) { c.Shuffle = ShuffleWindow(0) },
		`Shuffle is "window:1x"`:      func(c *Config) { c.Shuffle = "window:1x" },
		`DType is "int8"`:             func(c *Config) { c.DType = "int8" },
		"Rank is 2 of World 2":        func(c *Config) { c.Rank, c.World = 2, 2 },
		"Rank is 1 of World 0":        func(c *Config) { c.Rank = 1 },
		"Epochs is -1":                func(c *Config) { c.Epochs = -1 },
		"Limit is -1":                 func(c *Config) { c.Limit = -1 },
		"MaxBad is 1.5":               func(c *Config) { c.MaxBad = 1.5 },
		"Workers is -1":               func(c *Config) { c.Workers = -1 },
		"Batches is -1":               func(c *Config) { c.Batches = -1 },
		"Recipe: ":                    func(c *Config) { c.Recipe = augment.Recipe{} },
		"10 samples are too few":      func(c *Config) { c.World = 11 },
		"a part of 3 samples has no":  func(c *Config) { c.World = 3 },
		"Start is epoch 0, offset 11": func(c *Config) { c.Start.Offset = 11 },
		"Start is epoch -1, offset 0": func(c *Config) { c.Start.Epoch = -1 },
	} {
		cfg := config(t, d)
		change(&cfg)
		p, err := Open(context.Background(), cfg)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
}

func TestNewBatchRefusesOtherRecords(t *testing.T) {
	p := checked(t, context.Background(), config(t, dataset(t, 4)))
	if !p.Next() {
		t.Fatal(p.Err())
	}
	rec := p.Record()
	without := array.NewRecord(arrow.NewSchema(rec.Schema().Fields()[1:], nil), rec.Columns()[1:], rec.NumRows())
	defer without.Release()
	fields := rec.Schema().Fields()
	fields[colLabel].Name = "class"
	renamed := array.NewRecord(arrow.NewSchema(fields, nil), rec.Columns(), rec.NumRows())
	defer renamed.Release()
	fields = rec.Schema().Fields()
	columns := slices.Clone(rec.Columns())
	fields[colView], columns[colView] = fields[colCoord], columns[colCoord]
	swapped := array.NewRecord(arrow.NewSchema(fields, nil), columns, rec.NumRows())
	defer swapped.Release()
	for name, c := range map[string]struct {
		rec  arrow.Record
		want string
	}{
		"a column less": {without, "has 8 columns"},
		"a new name":    {renamed, "column 2 is class int32, want label int32"},
		"no view":       {swapped, "want view1"},
	} {
		if _, err := NewBatch(c.rec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
	}
}

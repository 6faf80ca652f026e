package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
)

// pairStream is pairs of views of a dataset, in as many parts as there are ranks.
type pairStream struct {
	pictures int
	size     int64 // of shards
	cfg      pipeline.Config
}

func randomStream(w *world, rng *rand.Rand) pairStream {
	s := pairStream{pictures: rng.IntN(len(w.images)), size: 1 << (11 + rng.IntN(4))}
	recipes := augment.RecipeNames()
	recipe, err := augment.LookupRecipe(recipes[rng.IntN(len(recipes))])
	if err != nil {
		panic(err)
	}
	shuffles := []pipeline.Shuffle{pipeline.ShuffleFull, pipeline.ShuffleNone, pipeline.ShuffleWindow(1), pipeline.ShuffleWindow(5), pipeline.ShuffleWindow(100)}
	s.cfg = pipeline.Config{
		Recipe: recipe, Size: 4 + rng.IntN(20), BatchSize: 1 + rng.IntN(9), Seed: rng.Uint64N(100),
		Shuffle: shuffles[rng.IntN(len(shuffles))], World: 1 + rng.IntN(3), KeepLast: rng.IntN(2) == 0,
		Epochs: 1 + rng.IntN(3), Batches: rng.IntN(4),
	}
	if p := w.images[s.pictures]; !s.cfg.KeepLast { // a part must have a batch
		s.cfg.BatchSize = min(s.cfg.BatchSize, (len(p.sound)+len(p.damaged))/s.cfg.World)
	}
	if rng.IntN(3) == 0 {
		s.cfg.DType = pipeline.Float32
	}
	return s
}

func (s pairStream) String() string {
	return fmt.Sprintf("stream of images%d, shards of %d bytes, %d epochs of batches of %d %s pairs of %d pixels, seed %d, recipe %s, shuffle %s, world %d, keep last %v, %d batches in memory",
		s.pictures, s.size, s.cfg.Epochs, s.cfg.BatchSize, s.cfg.DType, s.cfg.Size, s.cfg.Seed, s.cfg.Recipe.Name, s.cfg.Shuffle, s.cfg.World, s.cfg.KeepLast, s.cfg.Batches)
}

// operations read so many batches of all ranks and stop, with other workers and
// in other ways each time.
func (s pairStream) operations(rng *rand.Rand) []operation {
	var ops []operation
	for range rng.IntN(8) {
		name := "stream: close"
		if rng.IntN(2) == 0 {
			name = "stream: cancel"
		}
		ops = append(ops, operation{name, rng.IntN(6)})
	}
	return ops
}

// dataset makes the shards, which all streams of the same images share.
func (s pairStream) dataset(w *world) (string, error) {
	return undisturbed(w, fmt.Sprintf("shards of %d bytes of images%d", s.size, s.pictures), func(dir string) (string, error) {
		out := filepath.Join(dir, "shards")
		_, _, err := shards.Write(w.ctx, shards.WriteConfig{In: w.images[s.pictures].dir, Out: out, ShardSize: s.size})
		return out, err
	})
}

// pair is a row of a stream.
type pair struct {
	Index  int64
	Key    string
	Label  int32
	Views  [2][sha256.Size]byte
	Coords [2][4]float32
}

// read appends the rows of up to n batches from a position on, and returns the
// position behind them. A negative n reads to the end.
func (s pairStream) read(ctx context.Context, dir string, rank, workers, n int, from pipeline.Position, cancels bool, rows *[]pair) (pipeline.Position, error) {
	d, err := shards.Open(dir)
	if err != nil {
		return from, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := s.cfg
	cfg.Dataset, cfg.Rank, cfg.Workers, cfg.Start = d, rank, workers, from
	p, err := pipeline.Open(ctx, cfg)
	if err != nil {
		return from, errors.Join(err, d.Close())
	}
	for n != 0 && p.Next() {
		b, err := pipeline.NewBatch(p.Record())
		if err != nil {
			return from, err
		}
		for i := range b.Len() {
			r := pair{Index: b.Index()[i], Key: b.Key(i), Label: b.Labels()[i]}
			for v := range 2 {
				if s.cfg.DType == pipeline.Float32 {
					size := len(b.Floats(v)) / b.Len()
					r.Views[v] = sha256.Sum256(fmt.Append(nil, b.Floats(v)[i*size:(i+1)*size]))
				} else {
					size := len(b.Views(v)) / b.Len()
					r.Views[v] = sha256.Sum256(b.Views(v)[i*size : (i+1)*size])
				}
				r.Coords[v] = [4]float32(b.Coords(v)[4*i:])
			}
			*rows = append(*rows, r)
		}
		n--
	}
	err = p.Err()
	at := p.Position()
	if cancels {
		cancel()
	}
	return at, errors.Join(err, p.Close(), d.Close())
}

// result reads the stream without a stop, and compares it with the images.
func (s pairStream) result(w *world) ([][]pair, error) {
	return undisturbed(w, s.String(), func(string) ([][]pair, error) {
		dir, err := s.dataset(w)
		if err != nil {
			return nil, err
		}
		ranks := make([][]pair, s.cfg.World)
		for rank := range ranks {
			if _, err := s.read(w.ctx, dir, rank, 1, -1, pipeline.Position{}, false, &ranks[rank]); err != nil {
				return nil, err
			}
		}
		return ranks, s.compare(w, ranks)
	})
}

// compare compares a whole stream with the images: which there are how often, and
// the views of the first rows.
func (s pairStream) compare(w *world, ranks [][]pair) error {
	p := w.images[s.pictures]
	drawn, total := map[string]int{}, 0
	for _, rows := range ranks {
		total += len(rows)
		for _, r := range rows {
			drawn[r.Key]++
			if p.sound[r.Key] == nil {
				return fmt.Errorf("%s is drawn, which is damaged or does not exist", r.Key)
			}
			if drawn[r.Key] > s.cfg.Epochs {
				return fmt.Errorf("%s is drawn %d times in %d epochs", r.Key, drawn[r.Key], s.cfg.Epochs)
			}
		}
		if s.cfg.DType == pipeline.Float32 {
			continue // of views without a formula of its own here
		}
		epoch := 0 // the first may have few rows, where a part's images are damaged
		for i, r := range rows[:min(len(rows), 3)] {
			want, err := s.expected(p.sound[r.Key], epoch, r)
			for err == nil && want != r && epoch+1 < s.cfg.Epochs {
				epoch++
				want, err = s.expected(p.sound[r.Key], epoch, r)
			}
			if diff := cmp.Diff(want, r); err != nil || diff != "" {
				return fmt.Errorf("row %d: %v (-expected +got):\n%s", i, err, diff)
			}
		}
	}
	all := s.cfg.Epochs * len(p.sound)
	if dropped := s.cfg.Epochs * s.cfg.World * s.cfg.BatchSize; total > all || total < all-dropped || s.cfg.KeepLast && total != all {
		return fmt.Errorf("%d pairs of %d images in %d epochs", total, len(p.sound), s.cfg.Epochs)
	}
	if s.cfg.KeepLast && len(drawn) != len(p.sound) {
		return fmt.Errorf("%d images are drawn, of %d: all but %v", len(drawn), len(p.sound), slices.Sorted(maps.Keys(p.sound)))
	}
	return nil
}

// expected makes the views of a row of an epoch from its image.
func (s pairStream) expected(data []byte, epoch int, r pair) (pair, error) {
	var (
		d       decode.Decoder
		m       augment.Image
		scratch augment.Scratch
	)
	if err := d.Decode(data, &m); err != nil {
		return r, err
	}
	want := pair{Index: r.Index, Key: r.Key, Label: r.Label}
	for v := range 2 {
		rng := augment.NewRand(s.cfg.Seed, uint64(epoch), uint64(r.Index), v)
		params := s.cfg.Recipe.Sample(&rng, v, m.Width, m.Height)
		view := augment.NewPlanes(s.cfg.Size, s.cfg.Size)
		params.Apply(view, m, &scratch)
		want.Views[v] = sha256.Sum256(view.Pix)
		want.Coords[v] = params.Coord(m.Width, m.Height)
	}
	return want, nil
}

func (s pairStream) begin(w *world, _ string) (state, error) {
	want, err := s.result(w)
	if err != nil {
		return nil, err
	}
	dir, err := s.dataset(w)
	return &streamState{s, w, dir, want, make([][]pair, s.cfg.World), make([]pipeline.Position, s.cfg.World)}, err
}

type streamState struct {
	pairStream
	w    *world
	dir  string
	want [][]pair
	got  [][]pair
	at   []pipeline.Position
}

func (s *streamState) apply(op operation) error {
	return s.on(op.n, 1+op.n%4, op.name == "stream: cancel")
}

func (s *streamState) end() error { return s.on(-1, 2, false) }

// on reads on in all ranks and compares what there is by now.
func (s *streamState) on(n, workers int, cancels bool) (err error) {
	for rank := range s.got {
		if s.at[rank], err = s.read(s.w.ctx, s.dir, rank, workers, n, s.at[rank], cancels, &s.got[rank]); err != nil {
			return fmt.Errorf("rank %d at %+v: %w", rank, s.at[rank], err)
		}
		want := s.want[rank]
		if n >= 0 {
			want = want[:min(len(want), len(s.got[rank]))]
		}
		if !slices.Equal(want, s.got[rank]) {
			return fmt.Errorf("rank %d has %d pairs that are not the first of %d of a stream that was not stopped", rank, len(s.got[rank]), len(s.want[rank]))
		}
	}
	return nil
}

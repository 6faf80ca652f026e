package evaluate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/decoding"
	"github.com/seed-436d2970/pixpro/train"
)

// Extractor computes the feature maps of many images at once, one image at a
// time on each of its encoders. With encoders of one thread each, the maps do
// not depend on their number.
type Extractor struct {
	encoders []*train.Encoder
	stage    int
	limits   decode.Limits
	memory   *decoding.Memory
}

// NewExtractor returns an extractor of a stage's maps, of images within limits. All
// encoders must have the same parameters, each on a device of its own.
func NewExtractor(encoders []*train.Encoder, stage int, limits decode.Limits) *Extractor {
	return &Extractor{encoders, stage, limits, decoding.NewSharedMemory(len(encoders))}
}

// Features are the maps of images of one size.
type Features struct {
	Rows, Cols, Channels int
	Values               []float32 // images x Rows x Cols x Channels
}

// Len is the number of images.
func (f *Features) Len() int { return len(f.Values) / max(1, f.Rows*f.Cols*f.Channels) }

// Map is an image's map: Rows x Cols x Channels.
func (f *Features) Map(i int) []float32 {
	n := f.Rows * f.Cols * f.Channels
	return f.Values[i*n : (i+1)*n]
}

// Cells are all cells of all maps, one after the other, in the same memory.
func (f *Features) Cells() Points { return Points{f.Values, f.Channels} }

// Load makes the pixels of image i.
type Load func(l *Loader, i int) (augment.Planes, error)

// Each computes the maps of images 0 to n-1, each of its own size. load is
// called from one goroutine for each encoder, with that goroutine's own Loader;
// use with each map, also from several goroutines and in any order.
func (x *Extractor) Each(ctx context.Context, n int, load Load, use func(i int, m train.FeatureMap) error) error {
	if n > 0 && len(x.encoders) == 0 {
		return errors.New("evaluate: an extractor without encoders")
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for _, encoder := range x.encoders {
		g.Go(func() error {
			l := newLoader(ctx, x.memory, x.limits)
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				image, err := load(l, i)
				if err != nil {
					return err
				}
				m, err := encoder.Features(image, x.stage)
				if err != nil {
					return err
				}
				if err := use(i, m); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// Run computes the maps of images 0 to n-1, which must have one size; step is
// called after every image, from several goroutines.
func (x *Extractor) Run(ctx context.Context, n int, load Load, step func()) (*Features, error) {
	var f Features
	var first sync.Mutex // guards f while it is empty
	err := x.Each(ctx, n, load, func(i int, m train.FeatureMap) error {
		first.Lock()
		if f.Values == nil {
			f = Features{m.Rows, m.Cols, m.Channels, make([]float32, n*len(m.Values))}
		}
		first.Unlock()
		if m.Rows != f.Rows || m.Cols != f.Cols {
			return fmt.Errorf("evaluate: image %d has %d x %d cells, others %d x %d: all must have one size", i, m.Rows, m.Cols, f.Rows, f.Cols)
		}
		copy(f.Map(i), m.Values)
		step()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &f, nil
}

// Means computes the mean cells of images 0 to n-1, what global average pooling
// gives, and keeps nothing else; step is called as by Run.
func (x *Extractor) Means(ctx context.Context, n int, load Load, step func()) (Points, error) {
	p := Points{Dim: 1}  // of no points
	var first sync.Mutex // guards p while it is empty
	err := x.Each(ctx, n, load, func(i int, m train.FeatureMap) error {
		first.Lock()
		if p.Values == nil {
			p = Points{make([]float32, n*m.Channels), m.Channels}
		}
		first.Unlock()
		sum := make([]float64, m.Channels)
		for j, v := range m.Values {
			sum[j%m.Channels] += float64(v)
		}
		for c, v := range sum {
			p.At(i)[c] = float32(v / float64(m.Rows*m.Cols))
		}
		step()
		return nil
	})
	if err != nil {
		return Points{}, err
	}
	return p, nil
}

// Loader turns encoded images into pixels for an Extractor. All loaders of one
// share a bound of memory.
type Loader struct {
	ctx     context.Context
	worker  *decoding.Worker
	scratch augment.Scratch
}

func newLoader(ctx context.Context, m *decoding.Memory, l decode.Limits) *Loader {
	return &Loader{ctx: ctx, worker: decoding.NewWorker(m, l)}
}

// Load decodes an image and resizes it to size x size pixels, without regard to
// its proportions; size 0 leaves it as it is.
func (l *Loader) Load(data []byte, size int) (planes augment.Planes, err error) {
	err = l.worker.Decode(l.ctx, data, 1, func(m *augment.Image) error {
		width, height := m.Width, m.Height
		if size > 0 {
			width, height = size, size
		}
		planes = augment.NewPlanes(width, height)
		augment.ResizedCrop(planes, *m, augment.Rect{Width: m.Width, Height: m.Height}, &l.scratch)
		return nil
	})
	return planes, err
}

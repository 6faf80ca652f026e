package evaluate

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/train"
)

// Extractor computes the feature maps of many images at once, one image at a
// time on each of its encoders. With encoders of one thread each, the maps do
// not depend on their number.
type Extractor struct {
	encoders []*train.Encoder
	stage    int
}

// NewExtractor returns an extractor of a stage's maps. All encoders must have
// the same parameters, each on a device of its own.
func NewExtractor(encoders []*train.Encoder, stage int) *Extractor {
	return &Extractor{encoders, stage}
}

// Features are the maps of images of one size.
type Features struct {
	Rows, Cols, Channels int
	Maps                 [][]float32 // Rows x Cols x Channels each
}

// Cells are all cells of all maps, copied, one after the other.
func (f *Features) Cells() Points {
	values := make([]float32, 0, len(f.Maps)*f.Rows*f.Cols*f.Channels)
	for _, m := range f.Maps {
		values = append(values, m...)
	}
	return Points{values, f.Channels}
}

// Means are the mean cells of the maps: what global average pooling gives.
func (f *Features) Means() Points {
	p := Points{make([]float32, len(f.Maps)*f.Channels), f.Channels}
	sum := make([]float64, f.Channels)
	for i, m := range f.Maps {
		clear(sum)
		for j, v := range m {
			sum[j%f.Channels] += float64(v)
		}
		for c, v := range sum {
			p.At(i)[c] = float32(v / float64(f.Rows*f.Cols))
		}
	}
	return p
}

// Run computes the maps of images 0 to n-1, which must have one size. load is
// called from one goroutine for each encoder, with that goroutine's own
// Loader; step, if not nil, after every image, also from several goroutines.
func (x *Extractor) Run(ctx context.Context, n int, load func(l *Loader, i int) (augment.Planes, error), step func()) (*Features, error) {
	maps := make([]train.FeatureMap, n)
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for _, encoder := range x.encoders {
		g.Go(func() error {
			var l Loader
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				image, err := load(&l, i)
				if err != nil {
					return err
				}
				if maps[i], err = encoder.Features(image, x.stage); err != nil {
					return err
				}
				if step != nil {
					step()
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	f := &Features{Maps: make([][]float32, n)}
	for i, m := range maps {
		if i == 0 {
			f.Rows, f.Cols, f.Channels = m.Rows, m.Cols, m.Channels
		}
		if m.Rows != f.Rows || m.Cols != f.Cols {
			return nil, fmt.Errorf("evaluate: image %d has %d x %d cells, the first %d x %d", i, m.Rows, m.Cols, f.Rows, f.Cols)
		}
		f.Maps[i] = m.Values
	}
	return f, nil
}

// Loader turns encoded images into pixels, with memory that it keeps. The zero
// value is ready; it belongs to one goroutine.
type Loader struct {
	decoder decode.Decoder
	scratch augment.Scratch
	image   augment.Image
}

// Load decodes an image and resizes it to size x size pixels, without regard to
// its proportions; size 0 leaves it as it is.
func (l *Loader) Load(data []byte, size int) (augment.Planes, error) {
	if err := l.decoder.Decode(data, &l.image); err != nil {
		return augment.Planes{}, err
	}
	width, height := l.image.Width, l.image.Height
	planes := augment.NewPlanes(width, height)
	if size > 0 {
		planes = augment.NewPlanes(size, size)
	}
	augment.ResizedCrop(planes, l.image, augment.Rect{Width: width, Height: height}, &l.scratch)
	return planes, nil
}

// Package synth makes a small photo-like dataset of known content: class
// folders of JPEGs, each with one to three objects of random shape, colour,
// size and place on a textured background. What makes the class is the texture
// of the main object alone, so that dense features have something to find.
//
// A picture is drawn in linear light, one number generator a picture:
// background (background.go), then each object's shadow and its shaded,
// textured surface (scene.go, shape.go, texture.go), then light fall-off,
// blur, sensor noise and the sRGB curve (camera.go). The objects' shapes are
// signed distance functions, which give anti-aliased edges, soft shadows and
// bevels alike, and the segmentation mask for nothing.
package synth

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/event"
)

const (
	jpegQuality = 90
	// minSide is the smallest side at which the textures can still be told
	// apart, and maxSide bounds the memory of one picture (16 bytes a pixel).
	minSide = 32
	maxSide = 4096
	// maxImages is what the file names have digits for.
	maxImages = 1_000_000
)

// Options says what to generate. The zero value is the demo's dataset.
type Options struct {
	Images  int    // number of pictures; 0 = 400
	Classes int    // the first Classes of ClassNames; 0 = all
	Seed    uint64 // same seed, same bytes of every file

	// Sides of the pictures in pixels, each drawn between these two; 0 = 96
	// and 320.
	MinSide, MaxSide int

	// MasksDir, if set, gets a folder tree of PNGs with the names of the
	// pictures. A pixel is 0 on the background and 1+class on an object, with
	// the class of that object's own texture.
	MasksDir string

	Workers  int            // 0 = one a core; the result is the same for any number
	Listener event.Listener // is told of Progress after each picture
}

// Progress is how many pictures are drawn.
type Progress struct{ Done, Total int }

func (p Progress) String() string { return fmt.Sprintf("%d of %d pictures drawn", p.Done, p.Total) }

func (o *Options) setDefaults() {
	setDefault(&o.Images, 400)
	setDefault(&o.Classes, len(textures))
	setDefault(&o.MinSide, 96)
	setDefault(&o.MaxSide, max(320, o.MinSide))
	setDefault(&o.Workers, cpu.Cores())
}

func setDefault(v *int, value int) {
	if *v == 0 {
		*v = value
	}
}

// Validate reports the first option that cannot be used.
func (o Options) Validate() error {
	o.setDefaults()
	switch {
	case o.Images < 1 || o.Images > maxImages:
		return fmt.Errorf("synth: Images is %d, may be 1 to %d", o.Images, maxImages)
	case o.Classes < 1 || o.Classes > len(textures):
		return fmt.Errorf("synth: Classes is %d, may be 1 to %d", o.Classes, len(textures))
	case o.MinSide < minSide || o.MaxSide > maxSide || o.MinSide > o.MaxSide:
		return fmt.Errorf("synth: sides from %d to %d pixels, may be from %d to %d", o.MinSide, o.MaxSide, minSide, maxSide)
	case o.Workers < 1:
		return fmt.Errorf("synth: Workers is %d, may not be negative", o.Workers)
	}
	return nil
}

// ClassNames returns the names of all classes in the order of their indices.
func ClassNames() []string {
	names := make([]string, len(textures))
	for i, t := range textures {
		names[i] = t.name
	}
	return names
}

// Generate writes the dataset into dir as CLASS/CLASS_0000.jpg, …, with as
// many pictures a class as divide evenly. dir and MasksDir may not exist yet,
// or be empty; they appear when they are complete, and after a failure or a
// cancelled context nothing is left of what was drawn.
//
// The bytes are a function of the options on one processor architecture; on
// others, which fuse multiplications and additions, single pixels may differ.
func Generate(ctx context.Context, dir string, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	opts.setDefaults()
	images, err := stage(dir)
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	defer images.discard()
	var masks *staging // nil: no masks
	if opts.MasksDir != "" {
		if err := apart(dir, opts.MasksDir); err != nil {
			return err
		}
		if masks, err = stage(opts.MasksDir); err != nil {
			return fmt.Errorf("synth: %w", err)
		}
		defer masks.discard()
	}

	if err := writeAll(ctx, images, masks, opts); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	if masks != nil {
		if err := masks.commit(); err != nil {
			return fmt.Errorf("synth: %w", err)
		}
	}
	if err := images.commit(); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return nil
}

// apart refuses a folder of masks inside the folder of pictures, where masks
// would be taken for pictures, and the other way round.
func apart(images, masks string) error {
	for _, pair := range [][2]string{{images, masks}, {masks, images}} {
		rel, err := filepath.Rel(pair[0], pair[1])
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return fmt.Errorf("synth: MasksDir is %s and the pictures go to %s; one may not hold the other", masks, images)
		}
	}
	return nil
}

// writeAll draws the pictures on opts.Workers goroutines, which all have ended
// when it returns.
func writeAll(ctx context.Context, images, masks *staging, opts Options) error {
	for class := range opts.Classes {
		for _, s := range []*staging{images, masks} {
			if s == nil {
				continue
			}
			if err := os.Mkdir(filepath.Join(s.tmp, textures[class].name), 0o777); err != nil {
				return err
			}
		}
	}
	var mu sync.Mutex // guards done and orders events
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(opts.Workers)
	for i := range opts.Images {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := writeOne(i, images, masks, opts); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			opts.Listener.Tell(Progress{done, opts.Images})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if done < opts.Images {
		return context.Cause(ctx)
	}
	return nil
}

// writeOne draws picture i. All that is random comes from the seed and i.
func writeOne(i int, images, masks *staging, opts Options) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[0:], opts.Seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(i))
	rng := rand.New(rand.NewChaCha8(key))

	class := i % opts.Classes
	width, height := drawSize(rng, opts.MinSide, opts.MaxSide)
	s := drawScene(rng, class, opts.Classes, width, height)
	canvas, mask := s.render()
	picture := photograph(rng, canvas)

	name := textures[class].name
	name = filepath.Join(name, fmt.Sprintf("%s_%04d", name, i/opts.Classes))
	err := writeFile(filepath.Join(images.tmp, name+".jpg"), func(w io.Writer) error {
		return jpeg.Encode(w, picture, &jpeg.Options{Quality: jpegQuality})
	})
	if err != nil || masks == nil {
		return err
	}
	return writeFile(filepath.Join(masks.tmp, name+".png"), func(w io.Writer) error {
		return png.Encode(w, mask)
	})
}

// drawSize draws a long side and an aspect ratio from 1:1 to 3:2 (as far as
// the bounds let it), upright or lying.
func drawSize(rng *rand.Rand, lo, hi int) (width, height int) {
	long := lo + rng.IntN(hi-lo+1)
	short := max(lo, int(float64(long)/between(rng, 1, 1.5)))
	if rng.IntN(2) == 0 {
		return short, long
	}
	return long, short
}

// between draws from [lo, hi).
func between(rng *rand.Rand, lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }

func writeFile(path string, encode func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = encode(w)
	if err == nil {
		err = w.Flush()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// staging is a folder being filled: DIR.tmp, renamed to DIR by commit.
type staging struct{ tmp, dir string }

func stage(dir string) (*staging, error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty: remove it or name another folder: %w", dir, os.ErrExist)
	}
	s := &staging{tmp: dir + ".tmp", dir: dir}
	if err := os.RemoveAll(s.tmp); err != nil { // of a killed run
		return nil, err
	}
	return s, os.MkdirAll(s.tmp, 0o777)
}

func (s *staging) commit() error {
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(s.tmp, s.dir)
}

// discard removes what was not committed. It may be called after commit.
func (s *staging) discard() { os.RemoveAll(s.tmp) }

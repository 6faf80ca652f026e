package evaluate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/filetree"
)

// Ignore is the index of pixels in a mask that count nowhere.
const Ignore = 255

// Mask has a class index, or Ignore, for every pixel.
type Mask struct {
	Width, Height int
	Classes       []uint8 // Height x Width
}

// At is the class at a place given as fractions of the image, each from 0
// (inclusive) to 1.
func (m *Mask) At(x, y float64) uint8 {
	column := min(max(int(x*float64(m.Width)), 0), m.Width-1)
	row := min(max(int(y*float64(m.Height)), 0), m.Height-1)
	return m.Classes[row*m.Width+column]
}

// Folder is a set of images with their masks.
type Folder struct {
	Names  []string // paths below the folders, without endings
	Images []string // files
	Masks  []Mask
}

// Classes is one more than the largest class index of the folder.
func (f *Folder) Classes() int {
	classes := 0
	for _, m := range f.Masks {
		for _, c := range m.Classes {
			if c != Ignore {
				classes = max(classes, int(c)+1)
			}
		}
	}
	return classes
}

// ErrUnmatched is the class of errors about images and masks that do not belong
// together.
var ErrUnmatched = errors.New("images and masks do not match")

// imageEndings are those of the files that count as images.
var imageEndings = []string{".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}

// OpenFolder reads the masks of a folder of images. A mask is a PNG, grey or
// with a palette, whose values are class indices; it has the image's size, and
// its name below masks is the image's below images, but for the ending. Where
// they do not match, one error of class ErrUnmatched names the first five.
func OpenFolder(ctx context.Context, images, masks string) (*Folder, error) {
	imageFiles, twice, err := list(ctx, images, imageEndings)
	if err != nil {
		return nil, err
	}
	maskFiles, _, err := list(ctx, masks, []string{".png"})
	if err != nil {
		return nil, err
	}
	f := &Folder{}
	problems := twice
	for name := range imageFiles {
		if _, ok := maskFiles[name]; ok {
			f.Names = append(f.Names, name)
		} else {
			problems = append(problems, fmt.Sprintf("%s has no mask %s.png", imageFiles[name], filepath.Join(masks, name)))
		}
	}
	for name := range maskFiles {
		if _, ok := imageFiles[name]; !ok {
			problems = append(problems, fmt.Sprintf("%s has no image %s.*", maskFiles[name], filepath.Join(images, name)))
		}
	}
	slices.Sort(f.Names)
	slices.Sort(problems)

	n := len(f.Names)
	f.Images, f.Masks = make([]string, n), make([]Mask, n)
	sizes := make([]string, n) // what is wrong with each size
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cpu.Cores())
	for i, name := range f.Names {
		f.Images[i] = imageFiles[name]
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			data, err := os.ReadFile(f.Images[i])
			if err != nil {
				return err
			}
			header, err := decode.ReadHeader(data)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Images[i], err)
			}
			if data, err = os.ReadFile(maskFiles[name]); err != nil {
				return err
			}
			mask, err := decode.ReadHeader(data)
			if err != nil {
				return fmt.Errorf("%s: %w", maskFiles[name], err)
			}
			if header.Width != mask.Width || header.Height != mask.Height {
				sizes[i] = fmt.Sprintf("%s is %d x %d pixels, %s %d x %d", f.Images[i], header.Width, header.Height, maskFiles[name], mask.Width, mask.Height)
				return nil
			}
			if f.Masks[i], err = DecodeMask(data); err != nil {
				return fmt.Errorf("%s: %w", maskFiles[name], err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	for _, s := range sizes {
		if s != "" {
			problems = append(problems, s)
		}
	}
	if count := len(problems); count > 0 {
		const most = 5
		more := ""
		if count > most {
			problems, more = problems[:most], fmt.Sprintf("\n  … and %d more", count-most)
		}
		return nil, fmt.Errorf("evaluate: %w in %d places; every image needs a mask of its size and name:\n  %s%s",
			ErrUnmatched, count, strings.Join(problems, "\n  "), more)
	}
	if n == 0 {
		return nil, fmt.Errorf("evaluate: %s has no images (%s)", images, strings.Join(imageEndings, ", "))
	}
	if f.Classes() == 0 {
		return nil, fmt.Errorf("evaluate: the masks in %s have no pixel of a class: all are %d, which counts nowhere", masks, Ignore)
	}
	return f, nil
}

// list finds the files with one of the endings, by their paths below dir
// without ending, through links. twice names those whose name is another's too.
func list(ctx context.Context, dir string, endings []string) (files map[string]string, twice []string, err error) {
	files = map[string]string{}
	err = filetree.Walk(ctx, dir, nil, func(key string, kind filetree.Kind) {
		ending := path.Ext(key)
		if kind != filetree.File || !slices.Contains(endings, strings.ToLower(ending)) {
			return
		}
		file, name := filetree.Path(dir, key), filepath.FromSlash(strings.TrimSuffix(key, ending))
		if other, ok := files[name]; ok {
			twice = append(twice, fmt.Sprintf("%s and %s have the same name", other, file))
		}
		files[name] = file
	})
	if err != nil {
		return nil, nil, fmt.Errorf("evaluate: %w", err)
	}
	return files, twice, nil
}

// DecodeMask decodes a PNG of class indices: the numbers of its palette or its
// grey values, of up to 8 bits. Errors are of class decode.ErrFormat.
func DecodeMask(data []byte) (Mask, error) {
	header, err := decode.ReadHeader(data)
	if err != nil {
		return Mask{}, err
	}
	if header.Format != "png" {
		return Mask{}, fmt.Errorf("%w: a mask is a PNG, this is %s", decode.ErrFormat, header.Format)
	}
	if int64(header.Width)*int64(header.Height) > decode.DefaultMaxPixels {
		return Mask{}, fmt.Errorf("%w: %d x %d pixels, more than %d", decode.ErrTooLarge, header.Width, header.Height, decode.DefaultMaxPixels)
	}
	decoded, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return Mask{}, fmt.Errorf("%w: %w", decode.ErrFormat, err)
	}
	m := Mask{Width: header.Width, Height: header.Height}
	switch p := decoded.(type) {
	case *image.Paletted:
		m.Classes = p.Pix
	case *image.Gray:
		// Grey values of fewer than 8 bits were stretched to 0…255.
		const depthAt = 24 // of the bit depth in a PNG's first chunk
		if depth := data[depthAt]; depth < 8 {
			stretch := uint8(255 / (1<<depth - 1))
			for i := range p.Pix {
				p.Pix[i] /= stretch
			}
		}
		m.Classes = p.Pix
	default:
		return Mask{}, fmt.Errorf("%w: a mask has class indices as grey values of up to 8 bits or as numbers of a palette; this PNG has colours, transparency or 16 bits", decode.ErrFormat)
	}
	return m, nil
}

package evaluate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/filetree"
	"github.com/seed-436d2970/pixpro/internal/parallel"
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

// The endings of the files that count as images, and as masks.
var (
	imageEndings = []string{".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
	maskEndings  = []string{".png"}
)

// OpenFolder reads the masks of a folder of images. A mask is a PNG, grey or
// with a palette, whose values are class indices; it has the image's size, and
// its name below masks is the image's below images, but for the ending. Where
// they do not match, one error of class ErrUnmatched names the first five.
func OpenFolder(ctx context.Context, images, masks string) (*Folder, error) {
	imageFiles, imagesTwice, err := list(ctx, images, imageEndings)
	if err != nil {
		return nil, err
	}
	maskFiles, masksTwice, err := list(ctx, masks, maskEndings)
	if err != nil {
		return nil, err
	}
	f := &Folder{}
	problems := slices.AppendSeq(slices.Collect(maps.Values(imagesTwice)), maps.Values(masksTwice))
	for name, image := range imageFiles {
		if _, ok := maskFiles[name]; ok {
			f.Names = append(f.Names, name)
		} else {
			problems = append(problems, hasNoMask(image, masks, name))
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
	wanted := len(problems) == 0 // else nobody needs the masks
	sizes, failed := make([]string, n), make([]error, n)
	parallel.For(n, cpu.Cores(), func(i int) {
		if ctx.Err() != nil {
			return
		}
		f.Images[i] = imageFiles[f.Names[i]]
		sizes[i], failed[i] = f.readMask(i, maskFiles[f.Names[i]], wanted)
	})
	for _, err := range append([]error{ctx.Err()}, failed...) {
		if err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
	}
	for _, s := range sizes {
		if s != "" {
			problems = append(problems, s)
		}
	}
	switch {
	case len(problems) > 0:
		return nil, unmatched(problems)
	case n == 0:
		return nil, fmt.Errorf("evaluate: %s has no images (%s)", images, strings.Join(imageEndings, ", "))
	case f.Classes() == 0:
		return nil, fmt.Errorf("evaluate: the masks in %s have no pixel of a class: all are %d, which counts nowhere", masks, Ignore)
	}
	return f, nil
}

// readMask compares the sizes of image i and its mask, and decodes that if
// wanted. differ says how the sizes do.
func (f *Folder) readMask(i int, path string, decoded bool) (differ string, err error) {
	data, err := os.ReadFile(f.Images[i])
	if err != nil {
		return "", err
	}
	image, err := decode.ReadHeader(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Images[i], err)
	}
	if data, err = os.ReadFile(path); err != nil {
		return "", err
	}
	mask, err := decode.ReadHeader(data)
	if err == nil && (image.Width != mask.Width || image.Height != mask.Height) {
		return fmt.Sprintf("%s is %d x %d pixels, %s %d x %d", f.Images[i], image.Width, image.Height, path, mask.Width, mask.Height), nil
	}
	if err == nil && decoded {
		f.Masks[i], err = DecodeMask(data)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return "", nil
}

func hasNoMask(image, masks, name string) string {
	return fmt.Sprintf("%s has no mask %s.png", image, filepath.Join(masks, name))
}

// unmatched is the error of class ErrUnmatched that names the first five of the
// problems.
func unmatched(problems []string) error {
	const most = 5
	places, more := len(problems), ""
	if places > most {
		problems, more = problems[:most], fmt.Sprintf("\n  … and %d more", places-most)
	}
	return fmt.Errorf("evaluate: %w in %d places; every image needs a mask of its size and name:\n  %s%s",
		ErrUnmatched, places, strings.Join(problems, "\n  "), more)
}

// MaskFiles are the masks of images that are not in a folder.
type MaskFiles struct {
	dir   string
	files map[string]string // by paths below dir, without ending
}

// OpenMasks finds the masks below a folder of the images with the given keys:
// paths with "/", of which a mask has all but the ending. Where one lacks its
// mask, an error of class ErrUnmatched names the first five. Masks of other
// images are passed over.
func OpenMasks(ctx context.Context, dir string, keys iter.Seq[string]) (*MaskFiles, error) {
	files, twice, err := list(ctx, dir, maskEndings)
	if err != nil {
		return nil, err
	}
	m := &MaskFiles{dir, files}
	var problems []string
	for key := range keys {
		switch name := keyName(key); {
		case m.files[name] == "":
			problems = append(problems, hasNoMask(key, dir, name))
		case twice[name] != "":
			problems = append(problems, twice[name])
		}
	}
	if len(problems) > 0 {
		return nil, unmatched(problems)
	}
	return m, nil
}

func keyName(key string) string { return filepath.FromSlash(strings.TrimSuffix(key, path.Ext(key))) }

// Read reads the mask of the image with the given key and size.
func (m *MaskFiles) Read(key string, width, height int) (*Mask, error) {
	file := m.files[keyName(key)]
	if file == "" {
		return nil, unmatched([]string{hasNoMask(key, m.dir, keyName(key))})
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	mask, err := DecodeMask(data)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %s: %w", file, err)
	}
	if mask.Width != width || mask.Height != height {
		return nil, unmatched([]string{fmt.Sprintf("%s is %d x %d pixels, %s %d x %d", key, width, height, file, mask.Width, mask.Height)})
	}
	return &mask, nil
}

// list finds the files with one of the endings, by their paths below dir
// without ending, through links. twice tells of those whose name is another's too.
func list(ctx context.Context, dir string, endings []string) (files, twice map[string]string, err error) {
	files, twice = map[string]string{}, map[string]string{}
	err = filetree.Walk(ctx, dir, nil, func(key string, kind filetree.Kind) {
		if kind != filetree.File || !slices.Contains(endings, strings.ToLower(path.Ext(key))) {
			return
		}
		file, name := filetree.Path(dir, key), keyName(key)
		if other, ok := files[name]; ok {
			twice[name] = fmt.Sprintf("%s and %s have the same name", other, file)
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

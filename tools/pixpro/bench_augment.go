package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/filetree"
	"github.com/seed-436d2970/pixpro/internal/synth"
)

// augmentBench is what bench augment measures at one level on one core.
type augmentBench struct {
	Level      string           `json:"level"`
	JPEG       string           `json:"jpeg"`
	Images     int              `json:"images"`
	Size       int              `json:"size"`
	Recipe     string           `json:"recipe"`
	Operations []operationBench `json:"operations"`

	DecodeSeconds           float64 `json:"decode_seconds"` // an image
	PairSeconds             float64 `json:"pair_seconds"`   // from the decoded image
	DecodedImagesPerSecond  float64 `json:"decoded_images_per_second"`
	AugmentedPairsPerSecond float64 `json:"augmented_pairs_per_second"`
	PairsPerSecond          float64 `json:"pairs_per_second"` // decoded and augmented
}

type operationBench struct {
	Name                string  `json:"name"`
	NanosecondsPerPixel float64 `json:"nanoseconds_per_pixel"` // of the view
}

func newBenchAugment() *cobra.Command {
	var (
		dir, recipeName string
		size            int
		asJSON          bool
	)
	cmd := &cobra.Command{
		Use:   "augment",
		Short: "Measure decoding and augmentation on one core",
		Long: `Measure every operation in nanoseconds per pixel of the view, and pairs of views
from decoded and from encoded images, on one core: with each set of vector
instructions that the processor has, and last with Go's JPEG decoder. If
PIXPRO_CPU or PIXPRO_JPEG is set, only what it names is measured.

Without --images, a few generated pictures stand for photographs.`,
		Example: `  pixpro bench augment --images photos/
  PIXPRO_CPU=generic pixpro bench augment --images photos/ --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			recipe, err := augment.LookupRecipe(recipeName)
			if err != nil {
				return usageError{err}
			}
			if size < 1 || size > 1<<14 {
				return usageError{fmt.Errorf("--size %d: use 1 to %d pixels", size, 1<<14)}
			}
			var results []augmentBench
			if os.Getenv("PIXPRO_CPU") != "" || os.Getenv("PIXPRO_JPEG") != "" {
				var one augmentBench
				one, err = measureAugment(cmd.Context(), dir, recipe, size)
				results = append(results, one)
			} else {
				results, err = measureEachLevel(cmd.Context(), "bench", "augment", "--images", dir, "--recipe", recipeName, "--size", fmt.Sprint(size), "--json")
			}
			if err != nil {
				return err
			}
			return result(cmd, asJSON, results, benchTable(results))
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "images", "", "folder of images (default: generated pictures)")
	f.StringVar(&recipeName, "recipe", "byol", "augmentation of the pairs")
	f.IntVar(&size, "size", 224, "side of a view in pixels")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}

// measureEachLevel runs this program once for each level, and once more for Go's
// JPEG decoder: both are chosen when a process starts.
func measureEachLevel(ctx context.Context, args ...string) ([]augmentBench, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var results []augmentBench
	run := func(variables ...string) error {
		c := exec.CommandContext(ctx, program, args...)
		c.Env = append(os.Environ(), variables...)
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			return fmt.Errorf("measure with %s: %w", strings.Join(variables, " "), err)
		}
		var one []augmentBench
		if err := json.Unmarshal(out, &one); err != nil {
			return fmt.Errorf("measure with %s: %w", strings.Join(variables, " "), err)
		}
		results = append(results, one...)
		return nil
	}
	for level := cpu.Generic; level <= cpu.Available; level++ {
		if err := run("PIXPRO_CPU=" + level.String()); err != nil {
			return nil, err
		}
	}
	if decode.LibraryError() == nil {
		return results, run("PIXPRO_CPU="+cpu.Available.String(), "PIXPRO_JPEG=go")
	}
	return results, nil
}

// measureAugment measures with what this process has chosen.
func measureAugment(ctx context.Context, dir string, recipe augment.Recipe, size int) (augmentBench, error) {
	b := augmentBench{Level: cpu.Current().String(), JPEG: decode.JPEG(), Size: size, Recipe: recipe.Name}
	files, images, err := benchImages(ctx, dir)
	if err != nil {
		return b, err
	}
	b.Images = len(images)
	if b.Operations, err = measureOperations(ctx, images[0], size); err != nil {
		return b, err
	}

	// Rounds of decoding and of augmenting alternate, so that whatever else the
	// machine does hits both; the best round of each counts.
	var (
		decoder decode.Decoder
		image   augment.Image
		scratch augment.Scratch
		views   = [2]augment.Planes{augment.NewPlanes(size, size), augment.NewPlanes(size, size)}
	)
	const rounds = 5
	var decoding, augmenting time.Duration
	for round := range rounds {
		start := time.Now()
		for _, file := range files {
			if err := decoder.Decode(file, &image); err != nil {
				return b, err
			}
		}
		decoded := time.Now()
		for i, image := range images {
			for v, view := range views {
				rng := augment.NewRand(1, uint64(round), uint64(i), v)
				p := recipe.Sample(&rng, v, image.Width, image.Height)
				p.Apply(view, image, &scratch)
			}
		}
		d, a := decoded.Sub(start), time.Since(decoded)
		if round == 0 || d < decoding {
			decoding = d
		}
		if round == 0 || a < augmenting {
			augmenting = a
		}
		if err := ctx.Err(); err != nil {
			return b, err
		}
	}
	n := float64(len(images))
	b.DecodeSeconds, b.PairSeconds = decoding.Seconds()/n, augmenting.Seconds()/n
	b.DecodedImagesPerSecond, b.AugmentedPairsPerSecond = 1/b.DecodeSeconds, 1/b.PairSeconds
	b.PairsPerSecond = 1 / (b.DecodeSeconds + b.PairSeconds)
	return b, nil
}

// measureOperations measures single operations on a view of an image.
func measureOperations(ctx context.Context, image augment.Image, size int) ([]operationBench, error) {
	var scratch augment.Scratch
	crop := augment.Rect{Width: image.Width, Height: image.Height}
	original, view := augment.NewPlanes(size, size), augment.NewPlanes(size, size)
	augment.ResizedCrop(original, image, crop, &scratch)
	var results []operationBench
	type operation struct {
		name  string
		apply func()
	}
	measured := []operation{
		{"resized crop, whole image", func() { augment.ResizedCrop(view, image, crop, &scratch) }},
		{"resized crop, third of the sides", func() {
			third := augment.Rect{Width: max(image.Width/3, 1), Height: max(image.Height/3, 1)}
			augment.ResizedCrop(view, image, third, &scratch)
		}},
		{"flip", view.HFlip},
		{"grayscale", view.Grayscale},
		{"blur, sigma 0.5", func() { view.GaussianBlur(0.5, &scratch) }},
		{"blur, sigma 2", func() { view.GaussianBlur(2, &scratch) }},
	}
	for _, op := range augment.Operations() {
		typical := op.Typical()
		measured = append(measured, operation{op.String(), func() { typical.Apply(view, &scratch) }})
	}
	for _, op := range measured {
		const repeats = 100
		best := time.Duration(0)
		for i := range repeats {
			copy(view.Pix, original.Pix) // not what the operation before made
			start := time.Now()
			op.apply()
			if d := time.Since(start); i == 0 || d < best {
				best = d
			}
		}
		results = append(results, operationBench{op.name, float64(best.Nanoseconds()) / float64(size*size)})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// benchImages reads the images of a folder, or generates some, and decodes them.
func benchImages(ctx context.Context, dir string) (files [][]byte, images []augment.Image, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "pixpro-bench-"); err != nil {
			return nil, nil, err
		}
		defer os.RemoveAll(dir)
		if err := synth.Generate(ctx, filepath.Join(dir, "images"), synth.Options{Images: 24, MinSide: 375, MaxSide: 500}); err != nil {
			return nil, nil, err
		}
	}
	var paths []string
	err = filetree.Walk(ctx, dir, nil, func(key string, kind filetree.Kind) {
		if kind == filetree.File {
			paths = append(paths, filetree.Path(dir, key))
		}
	})
	if err != nil {
		return nil, nil, err
	}
	var decoder decode.Decoder
	const most = 500 // images, which stay in memory
	for _, path := range paths {
		if err := ctx.Err(); err != nil || len(images) == most {
			return files, images, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		var m augment.Image
		if err := decoder.Decode(data, &m); err != nil {
			if errors.Is(err, decode.ErrFormat) {
				continue // whatever else lies in the folder
			}
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		files, images = append(files, data), append(images, m)
	}
	if len(images) == 0 {
		return nil, nil, fmt.Errorf("%s has no images that can be decoded", dir)
	}
	return files, images, nil
}

// benchTable has a column for each result.
func benchTable(results []augmentBench) string {
	var text strings.Builder
	row := func(name, format string, value func(b augmentBench) any) {
		fmt.Fprintf(&text, "%-34s", name)
		for _, b := range results {
			fmt.Fprintf(&text, " %12s", fmt.Sprintf(format, value(b)))
		}
		text.WriteByte('\n')
	}
	first := results[0]
	fmt.Fprintf(&text, "%d images, views of %d x %d pixels, recipe %s, one core\n", first.Images, first.Size, first.Size, first.Recipe)
	for i, b := range results {
		fmt.Fprintf(&text, "column %d: %s, JPEG by %s\n", i+1, b.Level, b.JPEG)
	}
	text.WriteString("\nnanoseconds per pixel of the view\n")
	for i, op := range first.Operations {
		row(op.Name, "%.3f", func(b augmentBench) any { return b.Operations[i].NanosecondsPerPixel })
	}
	text.WriteString("\nmilliseconds\n")
	row("decode an image", "%.3f", func(b augmentBench) any { return 1e3 * b.DecodeSeconds })
	row("augment a pair", "%.3f", func(b augmentBench) any { return 1e3 * b.PairSeconds })
	text.WriteString("\na second\n")
	row("images decoded", "%.0f", func(b augmentBench) any { return b.DecodedImagesPerSecond })
	row("pairs augmented", "%.0f", func(b augmentBench) any { return b.AugmentedPairsPerSecond })
	row("pairs decoded and augmented", "%.0f", func(b augmentBench) any { return b.PairsPerSecond })
	return text.String()
}

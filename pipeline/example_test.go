package pipeline_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/shards"
)

// Ten batches of 8 pairs, from a dataset of 40 images.
func Example() {
	dir, err := os.MkdirTemp("", "pipeline")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	dataset, err := makeDataset(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dataset.Close()

	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pipeline.Open(context.Background(), pipeline.Config{
		Dataset: dataset, Recipe: recipe, Size: 32, BatchSize: 8, Limit: 80,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	for p.Next() {
		batch, err := pipeline.NewBatch(p.Record())
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(batch.Len(), "pairs,", len(batch.Views(0)), "+", len(batch.Views(1)), "bytes")
	}
	if err := p.Err(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%+v\n", p.Position())
	// Output:
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// 8 pairs, 24576 + 24576 bytes
	// {Epoch:2 Offset:0 Bad:0}
}

// makeDataset shards 40 plain images.
func makeDataset(dir string) (*shards.Dataset, error) {
	in, out := filepath.Join(dir, "photos"), filepath.Join(dir, "shards")
	if err := os.Mkdir(in, 0o777); err != nil {
		return nil, err
	}
	for i := range 40 {
		img := image.NewGray(image.Rect(0, 0, 48, 36))
		for x := range 48 {
			img.SetGray(x, i%36, color.Gray{Y: uint8(5 * x)})
		}
		f, err := os.Create(filepath.Join(in, fmt.Sprintf("%02d.png", i)))
		if err != nil {
			return nil, err
		}
		if err := png.Encode(f, img); err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: in, Out: out}); err != nil {
		return nil, err
	}
	return shards.Open(out)
}

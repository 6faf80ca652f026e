package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// showFeatures draws what encoders make of images and returns how many
// encoders these were. at is a pixel of each image, or empty.
func showFeatures(ctx context.Context, encoders *evaluate.Encoders, images []string, at [][2]int, out string) (int, error) {
	size := encoders.Size // 0: of each image
	sources, err := encoders.Sources()
	if err != nil {
		return 0, err
	}
	decoder := decode.Decoder{Limits: encoders.Limits}
	rows := make([]figure.FeatureRow, len(images))
	for i, path := range images {
		rows[i].Title = path
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		m := &rows[i].Source
		if err := decoder.Decode(data, m); err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		if len(at) == 0 {
			continue
		}
		x, y := at[i][0], at[i][1]
		if x < 0 || y < 0 || x >= m.Width || y >= m.Height {
			return 0, usageError{fmt.Errorf("--at %d,%d: %s has %d x %d pixels", x, y, path, m.Width, m.Height)}
		}
		rows[i].At = &at[i]
	}
	names := make([]string, len(sources))
	for s, source := range sources {
		names[s] = modelName(source.Name, source.Step)
		maps, err := featureMaps(ctx, encoders, source, images, size)
		if err != nil {
			return 0, err
		}
		drawn, err := colourMaps(ctx, maps)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", source.Name, err)
		}
		for i, d := range drawn {
			if r := &rows[i]; r.At != nil {
				cell := cellAt(*r.At, r.Source.Width, r.Source.Height, d.Rows, d.Cols)
				d.Similarity = evaluate.Similarity(evaluate.Points{Values: maps[i].Values, Dim: maps[i].Channels}, cell)
			}
			rows[i].Maps = append(rows[i].Maps, d)
		}
	}
	sheet, err := figure.Features(rows, names)
	if err != nil {
		return 0, err
	}
	return len(sources), writePNG(out, sheet)
}

// cellAt is the number of the cell that lies over a pixel (x, y) of an image.
func cellAt(at [2]int, width, height, rows, cols int) int {
	return at[1]*rows/height*cols + at[0]*cols/width
}

// featureMaps computes the maps of images of different sizes.
func featureMaps(ctx context.Context, encoders *evaluate.Encoders, source evaluate.Source, images []string, size int) ([]train.FeatureMap, error) {
	x, free, err := encoders.Open(source, len(images))
	if err != nil {
		return nil, err
	}
	defer free()
	listen, finish := evaluationBars()
	defer finish()
	maps, err := x.Files(ctx, listen, images, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Name, err)
	}
	return maps, nil
}

// colourMaps gives each cell the first three principal components of all maps
// together, each stretched to 0 to 1.
func colourMaps(ctx context.Context, maps []train.FeatureMap) ([]figure.FeatureMap, error) {
	var all []float32
	for _, m := range maps {
		all = append(all, m.Values...)
	}
	if len(all) == maps[0].Channels {
		return nil, errors.New("the image has one cell only, which leaves nothing to compare: use a larger one, or a larger --size")
	}
	const count = 3
	projected, _, err := evaluate.Components(ctx, evaluate.Points{Values: all, Dim: maps[0].Channels}, count)
	if err != nil {
		return nil, err
	}
	for c := range count {
		low, high := math.Inf(1), math.Inf(-1)
		for i := c; i < len(projected); i += count {
			low, high = min(low, projected[i]), max(high, projected[i])
		}
		if high == low {
			high++ // all cells are the same: 0
		}
		for i := c; i < len(projected); i += count {
			projected[i] = (projected[i] - low) / (high - low)
		}
	}
	drawn := make([]figure.FeatureMap, len(maps))
	for i, m := range maps {
		n := count * m.Rows * m.Cols
		drawn[i] = figure.FeatureMap{Rows: m.Rows, Cols: m.Cols, Colours: projected[:n:n]}
		projected = projected[n:]
	}
	return drawn, nil
}

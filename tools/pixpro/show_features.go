package main

import (
	"context"
	"fmt"
	"math"
	"os"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/figure"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/evaluate"
)

// showFeatures draws what encoders make of images and returns how many
// encoders these were. at is a pixel of each image, or empty.
func showFeatures(ctx context.Context, encoders *encoderFlags, images []string, at [][2]int, out string) (int, error) {
	size := encoders.size // 0: of each image
	sources, err := encoders.sources()
	if err != nil {
		return 0, err
	}
	var decoder decode.Decoder
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
		names[s] = modelName(source.name, source.step)
		maps, err := featureMaps(ctx, encoders, source, images, size)
		if err != nil {
			return 0, err
		}
		drawn, err := colourMaps(maps)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", source.name, err)
		}
		for i, d := range drawn {
			if r := &rows[i]; r.At != nil {
				cell := r.At[1]*d.Rows/r.Source.Height*d.Cols + r.At[0]*d.Cols/r.Source.Width
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

// featureMaps computes the maps of images of different sizes.
func featureMaps(ctx context.Context, encoders *encoderFlags, source encoderSource, images []string, size int) ([]train.FeatureMap, error) {
	x, free, err := encoders.open(source)
	if err != nil {
		return nil, err
	}
	defer free()
	maps := make([]train.FeatureMap, len(images))
	for i, path := range images {
		f, err := extract(ctx, x, source.name+": "+path, 1, func(*evaluate.Loader, int) (augment.Planes, error) { return readPlanes(path, size) })
		if err != nil {
			return nil, err
		}
		maps[i] = train.FeatureMap{Rows: f.Rows, Cols: f.Cols, Channels: f.Channels, Values: f.Maps[0]}
	}
	return maps, nil
}

// colourMaps gives each cell the first three principal components of all maps
// together, each stretched to 0 to 1.
func colourMaps(maps []train.FeatureMap) ([]figure.FeatureMap, error) {
	var all []float32
	for _, m := range maps {
		all = append(all, m.Values...)
	}
	const count = 3
	projected, _, err := evaluate.Components(evaluate.Points{Values: all, Dim: maps[0].Channels}, count)
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

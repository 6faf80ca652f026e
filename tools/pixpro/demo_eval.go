package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/evaluate"
	"github.com/seed-436d2970/pixpro/train/options"
)

// demoEvaluation is where the demo's evaluation reads and writes.
type demoEvaluation struct {
	train, trainMasks        string
	val, valMasks, valShards string
	run, recipe              string
	features, file           string
	seed                     uint64
}

// demoScores are the rows of the demo's table, and its JSON.
type demoScores struct {
	Images int         `json:"val_images"`
	Models []demoScore `json:"models"`
}

type demoScore struct {
	Model         string  `json:"model"`
	MeanIoU       float64 `json:"miou"`
	PixelAccuracy float64 `json:"pixel_accuracy"`
	ClusterIoU    float64 `json:"cluster_miou"`
	MatchTop1     float64 `json:"match_top1"`
	WithinOne     float64 `json:"match_within_one"`
}

func (d *demoScores) table() string {
	rows := [][]string{{"features", "mIoU", "pixel accuracy", "cluster mIoU", "match", "match within one cell"}}
	for _, m := range d.Models {
		rows = append(rows, []string{m.Model, percent(m.MeanIoU), percent(m.PixelAccuracy), percent(m.ClusterIoU), percent(m.MatchTop1), percent(m.WithinOne)})
	}
	return table(rows)
}

// The demo measures on images somewhat larger than its views, which gives
// 8 x 8 cells: textures are finer in whole images than in crops. It draws a few.
const (
	demoEvalSize = 128
	demoPairs    = 200
	demoPictures = 4
)

// measure compares the trained encoder with an untrained one, in a table and a
// picture.
func (e *demoEvaluation) measure(ctx context.Context, cmd *cobra.Command) (*demoScores, error) {
	listen, finish := evaluationBars()
	encoders := evaluate.DefaultEncoders()
	encoders.Checkpoints, encoders.Untrained = []string{e.run}, true
	encoders.Seed, encoders.Size, encoders.Listener = e.seed, demoEvalSize, listen
	segment, err := evaluate.SegmentRun{
		Encoders: encoders, Train: e.train, Masks: e.trainMasks, Val: e.val, ValMasks: e.valMasks, Probe: evaluate.DefaultProbe(),
	}.Run(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := evaluate.ClusterRun{
		Encoders: encoders, Val: e.val, ValMasks: e.valMasks,
		Options: evaluate.ClusterOptions{KMeansOptions: evaluate.KMeansOptions{Restarts: 5, Iterations: 100}, Normalize: true},
	}.Run(ctx)
	if err != nil {
		return nil, err
	}
	finish()
	if err := shard(ctx, cmd, shards.WriteConfig{In: e.val, Out: e.valShards}, false); err != nil {
		return nil, err
	}
	encoders.Size = demoSize // views as in training
	match, err := evaluate.MatchRun{
		Encoders: encoders, Shards: e.valShards, Recipe: e.recipe, Pairs: demoPairs, Ratio: options.Default().PixProPositiveRatio,
	}.Run(ctx)
	finish()
	if err != nil {
		return nil, err
	}
	scores := &demoScores{Images: segment.Val}
	for i, name := range []string{"trained", "untrained"} {
		scores.Models = append(scores.Models, demoScore{
			name, segment.Models[i].MeanIoU, segment.Models[i].Accuracy, cluster.Models[i].MeanIoU, match.Models[i].Top1, match.Models[i].WithinOne,
		})
	}
	slices.Reverse(scores.Models)
	if err := atomicfile.WriteTo(e.file, func(w io.Writer) error { return json.NewEncoder(w).Encode(scores) }); err != nil {
		return nil, err
	}
	valSet, err := evaluate.OpenFolder(ctx, e.val, e.valMasks)
	if err != nil {
		return nil, err
	}
	return scores, e.draw(ctx, encoders, valSet)
}

// draw draws features of the first images, compared with a place on an object.
func (e *demoEvaluation) draw(ctx context.Context, encoders evaluate.Encoders, set *evaluate.Folder) error {
	var images []string
	var marks [][2]int
	for i := range demoPictures {
		k := i * len(set.Images) / demoPictures // of several classes
		images, marks = append(images, set.Images[k]), append(marks, onObject(&set.Masks[k]))
	}
	encoders.Size = 0
	_, err := showFeatures(ctx, &encoders, images, marks, e.features)
	return err
}

// onObject is the pixel that lies deepest in an object: farthest, in steps to
// the side, up and down, from other classes and the picture's edge. Without
// objects it is 0, 0.
func onObject(m *evaluate.Mask) [2]int {
	depth := make([]int, len(m.Classes))
	// at is the depth of a neighbour: 0 outside of the object.
	at := func(x, y int, class uint8) int {
		if x < 0 || y < 0 || x >= m.Width || y >= m.Height || m.Classes[y*m.Width+x] != class {
			return 0
		}
		return depth[y*m.Width+x]
	}
	for i, class := range m.Classes { // from above and the left
		if x, y := i%m.Width, i/m.Width; class != 0 {
			depth[i] = 1 + min(at(x-1, y, class), at(x, y-1, class))
		}
	}
	best := 0
	for i := len(m.Classes) - 1; i >= 0; i-- { // from below and the right
		class := m.Classes[i]
		if x, y := i%m.Width, i/m.Width; class != 0 {
			depth[i] = min(depth[i], 1+min(at(x+1, y, class), at(x, y+1, class)))
		}
		if depth[i] >= depth[best] {
			best = i
		}
	}
	return [2]int{best % m.Width, best / m.Width}
}

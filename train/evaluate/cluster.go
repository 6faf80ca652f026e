package evaluate

import (
	"context"
	"fmt"

	"github.com/seed-436d2970/pixpro/internal/parallel"
)

// ClusterOptions say how features are clustered.
type ClusterOptions struct {
	KMeansOptions
	// Normalize divides each cell's vector by its length before clustering, so
	// that clusters depend on directions, which PixPro learns.
	Normalize bool
}

// ClusterScores are the scores of clusters in place of classes.
type ClusterScores struct {
	Scores
	// ClassOf is the class that each cluster stands for.
	ClassOf []int `json:"class_of_cluster"`
}

// Cluster clusters the cells of all maps by k-means and gives each pixel the
// centre nearest to the interpolated features. As many clusters as there are
// classes get a class of their own so that most pixels are right (Assign);
// those beyond get the class that most of their pixels have. With Normalize, the
// features are divided in place.
func Cluster(ctx context.Context, f *Features, masks []Mask, classes int, opts ClusterOptions) (ClusterScores, error) {
	if opts.K < classes {
		return ClusterScores{}, fmt.Errorf("evaluate: %d clusters for %d classes: use at least as many", opts.K, classes)
	}
	if err := checkMasks(f, masks, classes); err != nil {
		return ClusterScores{}, err
	}
	cells := f.Cells()
	if opts.Normalize {
		normalize(cells)
	}
	clusters, err := KMeans(ctx, cells, opts.KMeansOptions)
	if err != nil {
		return ClusterScores{}, err
	}
	// The nearest centre c of a vector x is that of the largest x.c - c.c/2,
	// which is linear in x: interpolating scores is interpolating features.
	// In relation to the centres' mean m, (x-m).(c-m) - (c-m).(c-m)/2, it is as
	// exact for features that are nearly alike.
	mean, half := make([]float64, cells.Dim), make([]float64, opts.K)
	for i, v := range clusters.Centres {
		mean[i%cells.Dim] += v / float64(opts.K)
	}
	for i := range clusters.Centres {
		clusters.Centres[i] -= mean[i%cells.Dim]
		half[i/cells.Dim] += clusters.Centres[i] * clusters.Centres[i] / 2
	}
	scores := make([][]float32, f.Len())
	perMap := f.Rows * f.Cols
	parallel.For(len(scores), opts.Workers, func(i int) {
		scores[i] = make([]float32, 0, perMap*opts.K)
		for cell := range perMap {
			x := cells.At(i*perMap + cell)
			for c := range opts.K {
				sum := -half[c]
				for j, v := range clusters.Centres[c*cells.Dim : (c+1)*cells.Dim] {
					sum += (float64(x[j]) - mean[j]) * v
				}
				scores[i] = append(scores[i], float32(sum))
			}
		}
	})
	overlap := count(scores, f.Rows, f.Cols, opts.K, masks, opts.Workers)
	classOf, err := matchClusters(overlap, classes)
	if err != nil {
		return ClusterScores{}, err
	}
	c := NewConfusion(classes)
	for truth := range classes {
		for cluster, class := range classOf {
			c.Add(truth, class, overlap.counts[truth*opts.K+cluster])
		}
	}
	return ClusterScores{c.Scores(), classOf}, nil
}

// matchClusters says which class each cluster stands for.
func matchClusters(overlap *Confusion, classes int) ([]int, error) {
	k := overlap.classes
	cost := make([]float64, classes*k)
	for i := range cost {
		cost[i] = -float64(overlap.counts[i])
	}
	clusters, err := Assign(cost, classes, k)
	if err != nil {
		return nil, err
	}
	classOf := make([]int, k)
	for cluster := range classOf { // of most of its pixels
		for class := range classes {
			if overlap.counts[class*k+cluster] > overlap.counts[classOf[cluster]*k+cluster] {
				classOf[cluster] = class
			}
		}
	}
	for class, cluster := range clusters {
		classOf[cluster] = class
	}
	return classOf, nil
}

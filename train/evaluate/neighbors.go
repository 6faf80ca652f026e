package evaluate

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
)

// NeighborsOptions say how neighbours vote.
type NeighborsOptions struct {
	K           int     // neighbours that vote
	Temperature float64 // a vote weighs exp(cosine / Temperature)
	Workers     int
}

// Neighbors predicts a class for each query: that of its K nearest points by
// cosine, weighted as by Wu et al. (2018). labels are the points' classes. With
// queries nil, each point is classified by all others.
func Neighbors(ctx context.Context, points Points, labels []int, queries *Points, opts NeighborsOptions) ([]int, error) {
	if err := points.check(); err != nil {
		return nil, err
	}
	points = unit(points)
	self := queries == nil
	asked := points
	if !self {
		if err := queries.check(); err != nil {
			return nil, err
		}
		asked = unit(*queries)
	}
	available := points.Len()
	if self {
		available--
	}
	switch {
	case opts.K < 1 || opts.K > available:
		return nil, fmt.Errorf("evaluate: %d neighbours of %d: use 1 to %d", opts.K, points.Len(), max(1, available))
	case !(opts.Temperature > 0):
		return nil, fmt.Errorf("evaluate: temperature %g: must be above 0", opts.Temperature)
	case len(labels) != points.Len() || slices.Min(labels) < 0:
		return nil, fmt.Errorf("evaluate: %d labels of %d points: each needs one from 0", len(labels), points.Len())
	case asked.Dim != points.Dim:
		return nil, fmt.Errorf("evaluate: queries of %d channels among points of %d", asked.Dim, points.Dim)
	}
	classes := slices.Max(labels) + 1
	predicted := make([]int, asked.Len())
	const block = 64 // queries; and chunkSize points a product
	parallel.For((asked.Len()+block-1)/block, opts.Workers, func(b int) {
		if ctx.Err() != nil {
			return
		}
		from, to := b*block, min(asked.Len(), (b+1)*block)
		nearest := make([]nearestList, to-from)
		products := make([]float32, block*chunkSize)
		for at := 0; at < points.Len(); at += chunkSize {
			n := min(chunkSize, points.Len()-at)
			dim := points.Dim
			gemm.Mul(false, true, to-from, n, dim, asked.Values[from*dim:to*dim], dim, points.Values[at*dim:(at+n)*dim], dim, false, products, n)
			for q := range nearest {
				for i, s := range products[q*n : (q+1)*n] {
					if !self || at+i != from+q {
						nearest[q].add(opts.K, float64(s), at+i)
					}
				}
			}
		}
		votes := make([]float64, classes)
		for q, list := range nearest {
			clear(votes)
			for _, near := range list {
				// In relation to the nearest, so that no temperature is too low.
				votes[labels[near.index]] += math.Exp((near.cosine - list[0].cosine) / opts.Temperature)
			}
			for class, v := range votes {
				if v > votes[predicted[from+q]] {
					predicted[from+q] = class
				}
			}
		}
	})
	return predicted, ctx.Err()
}

// unit is a copy of the points with length 1.
func unit(p Points) Points {
	p.Values = append([]float32(nil), p.Values...)
	normalize(p)
	return p
}

type neighbor struct {
	cosine float64
	index  int
}

// nearestList is sorted, the nearest first; of equals, the one that came first.
type nearestList []neighbor

func (l *nearestList) add(k int, cosine float64, index int) {
	list := *l
	if len(list) == k && cosine <= list[k-1].cosine {
		return
	}
	if len(list) < k {
		list = append(list, neighbor{})
	}
	i := len(list) - 1
	for ; i > 0 && list[i-1].cosine < cosine; i-- {
		list[i] = list[i-1]
	}
	list[i] = neighbor{cosine, index}
	*l = list
}

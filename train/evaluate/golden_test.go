package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The cases were made by testdata/make_golden.py; the file names the versions.
type goldenCases struct {
	Source    string `json:"source"`
	Confusion []struct {
		Classes          int
		Truth, Predicted []int
		MIoU, Accuracy   float64
		IoU              []*float64
	}
	Assignment []struct {
		Rows, Cols int
		Cost       []float64
		Total      float64
		Columns    []int
	}
	KMeans []struct {
		Dim           int
		Points        []float32
		Init, Centres []float64
		Labels        []int
		Inertia       float64
	}
	Neighbours []struct {
		Dim, Classes, K          int
		Temperature, Accuracy    float64
		Train, Test              []float32
		Labels, Truth, Predicted []int
	}
	Upsample []struct {
		Rows, Cols, Channels, Height, Width int
		Scores, Out, Grad                   []float32
		Truth                               []int
		Loss                                float64
	}
	Components []struct {
		Dim               int
		Points            []float32
		Projected, Ratios []float64
	}
	Probe []struct {
		Rows, Cols, Channels, Classes, Epochs int
		Rate, Decay                           float64
		Features, Weight, Bias                []float32
		Truth                                 []int
		TrainedWeight                         []float32 `json:"trained_weight"`
		TrainedBias                           []float32 `json:"trained_bias"`
	}
}

func golden(t *testing.T) *goldenCases {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenCases
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

func near(tolerance float64) cmp.Option { return cmpopts.EquateApprox(tolerance, tolerance) }

func TestScoresEqualScikitLearn(t *testing.T) {
	for i, c := range golden(t).Confusion {
		m := NewConfusion(c.Classes)
		for j, truth := range c.Truth {
			if truth != Ignore {
				m.Add(truth, c.Predicted[j], 1)
			}
		}
		want := Scores{MeanIoU: c.MIoU, Accuracy: c.Accuracy, IoU: c.IoU}
		if diff := cmp.Diff(want, m.Scores(), near(1e-12)); diff != "" {
			t.Errorf("case %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestScoresOfNothingAreNoNumbers(t *testing.T) {
	if s := NewConfusion(3).Scores(); !math.IsNaN(s.MeanIoU) || !math.IsNaN(s.Accuracy) {
		t.Errorf("no pixels give %+v", s)
	}
}

func TestAssignEqualsSciPy(t *testing.T) {
	for i, c := range golden(t).Assignment {
		columns, err := Assign(c.Cost, c.Rows, c.Cols)
		if err != nil {
			t.Fatal(err)
		}
		total, used := 0.0, map[int]bool{}
		for row, column := range columns {
			total += c.Cost[row*c.Cols+column]
			used[column] = true
		}
		if len(used) != c.Rows || math.Abs(total-c.Total) > 1e-9 {
			t.Errorf("case %d: %v costs %g, SciPy's costs %g", i, columns, total, c.Total)
		}
		if c.Columns != nil && !cmp.Equal(columns, c.Columns) {
			t.Errorf("case %d: %v, SciPy has %v", i, columns, c.Columns)
		}
	}
}

func TestAssignRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		cost       []float64
		rows, cols int
	}{
		"more rows than columns": {[]float64{1, 2}, 2, 1},
		"too few costs":          {[]float64{1, 2, 3}, 2, 2},
		"not a number":           {[]float64{math.NaN()}, 1, 1},
		"infinite":               {[]float64{math.Inf(1)}, 1, 1},
	} {
		if columns, err := Assign(c.cost, c.rows, c.cols); err == nil {
			t.Errorf("%s: assigned %v", name, columns)
		}
	}
}

func TestLloydEqualsScikitLearn(t *testing.T) {
	for i, c := range golden(t).KMeans {
		for _, workers := range []int{1, 3} {
			got, err := lloyd(t.Context(), Points{c.Points, c.Dim}, append([]float64(nil), c.Init...), KMeansOptions{Workers: workers}, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
			want := &Clusters{Centres: c.Centres, Labels: c.Labels, Inertia: c.Inertia}
			if diff := cmp.Diff(want, got, near(1e-9), cmpopts.IgnoreFields(Clusters{}, "Iterations")); diff != "" {
				t.Errorf("case %d (-want +got):\n%s", i, diff)
			}
		}
	}
}

func TestNeighborsEqualScikitLearn(t *testing.T) {
	for i, c := range golden(t).Neighbours {
		queries := Points{c.Test, c.Dim}
		got, err := Neighbors(t.Context(), Points{c.Train, c.Dim}, c.Labels, &queries, NeighborsOptions{K: c.K, Temperature: c.Temperature, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Predicted, got); diff != "" {
			t.Errorf("case %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestUpsamplingAndLossEqualPyTorch(t *testing.T) {
	for i, c := range golden(t).Upsample {
		u := newUpsampler(c.Rows, c.Cols, c.Channels, c.Height, c.Width)
		out := make([]float32, len(c.Out))
		for y := range c.Height {
			u.row(out[y*c.Width*c.Channels:][:c.Width*c.Channels], c.Scores, y)
		}
		if diff := cmp.Diff(c.Out, out, near(1e-5)); diff != "" {
			t.Errorf("case %d: map (-want +got):\n%s", i, diff)
		}
		truth := make([]uint8, len(c.Truth))
		for j, v := range c.Truth {
			truth[j] = uint8(v)
		}
		grad := make([]float32, len(c.Scores))
		loss := crossEntropy(grad, c.Scores, truth, u, 1)
		if math.Abs(loss-c.Loss) > 1e-5*c.Loss {
			t.Errorf("case %d: loss %g, PyTorch has %g", i, loss, c.Loss)
		}
		if diff := cmp.Diff(c.Grad, grad, near(1e-4)); diff != "" {
			t.Errorf("case %d: gradient (-want +got):\n%s", i, diff)
		}
	}
}

func TestComponentsEqualScikitLearn(t *testing.T) {
	for i, c := range golden(t).Components {
		projected, ratios, err := Components(t.Context(), Points{c.Points, c.Dim}, 3)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Ratios, ratios, near(1e-6)); diff != "" {
			t.Errorf("case %d: ratios (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(c.Projected, projected, near(1e-5)); diff != "" {
			t.Errorf("case %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestComponentsOfLittle(t *testing.T) {
	same := Points{slices.Repeat([]float32{0.1, 0.7}, 100), 2}
	projected, ratios, err := Components(t.Context(), same, 3)
	if diff := cmp.Diff(make([]float64, 300), projected); diff != "" || err != nil || !cmp.Equal(ratios, make([]float64, 3)) {
		t.Errorf("of points that are all the same: %v, %v (%v)", projected, ratios, err)
	}
	line := Points{[]float32{0, 0, 1, 2, 3, 6}, 2} // one dimension of two
	projected, ratios, err = Components(t.Context(), line, 3)
	root := math.Sqrt(5)
	want := []float64{-4 / 3. * root, 0, 0, -1 / 3. * root, 0, 0, 5 / 3. * root, 0, 0}
	if diff := cmp.Diff(want, projected, near(1e-9)); diff != "" || err != nil || !cmp.Equal(ratios, []float64{1, 0, 0}, near(1e-9)) {
		t.Errorf("of points on a line: %v, %v (%v)", projected, ratios, err)
	}
	for i, v := range projected {
		if i%3 > 0 && v != 0 {
			t.Errorf("of points on a line: %g across it, which is rounding", v)
		}
	}
	if _, _, err := Components(t.Context(), Points{[]float32{1, 2}, 2}, 3); err == nil {
		t.Error("one point is taken")
	}
	if _, _, err := Components(t.Context(), Points{[]float32{1, 2, float32(math.NaN()), 1}, 2}, 3); err == nil {
		t.Error("what is no number is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Components(ctx, line, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

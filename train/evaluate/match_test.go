package evaluate

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMatcher uses maps in which a cell's feature is its place in the image.
func TestMatcher(t *testing.T) {
	const side = 16 // more cells than a product has
	whole := [4]float32{0, 0, 1, 1}
	places := func(shift int) []float32 {
		m := make([]float32, side*side*side*side)
		for i := range side * side {
			m[i*side*side+(i+shift)%(side*side)] = 1
		}
		return m
	}
	mask := &Mask{Width: 2, Height: 1, Classes: []uint8{0, 3}}
	for _, c := range []struct {
		name         string
		shift        int
		top1, within float64
	}{
		{"every cell finds its place", 0, 1, 1},
		// All cells find their neighbour but those of the last column, which find
		// the other end of a line.
		{"every cell finds the cell before", 1, 0, 15. / 16},
	} {
		m := NewMatcher(side, side, side*side, 0.5)
		m.Add(View{places(0), whole}, View{places(c.shift), whole}, mask)
		s := m.Scores()
		if s.Pairs != 1 || s.Queries != side*side || s.Top1 != c.top1 || s.WithinOne != c.within || s.Chance != 1.0/(side*side) {
			t.Errorf("%s: %+v", c.name, s)
		}
		if s.Positive == nil || *s.Positive != c.top1 || s.Inside == nil || s.Across == nil || *s.Across > *s.Inside {
			t.Errorf("%s: similarities %+v", c.name, s)
		}
	}
	apart := NewMatcher(side, side, side*side, 0.5)
	apart.Add(View{places(0), [4]float32{0, 0, 0.2, 0.2}}, View{places(0), [4]float32{0.8, 0.8, 1, 1}}, nil)
	if s := apart.Scores(); s.Pairs != 0 || s.Queries != 0 || s.Top1 != 0 || s.Positive != nil || s.Inside != nil {
		t.Errorf("views without a common cell score %+v", s)
	}
}

// TestMatcherMeans computes all means by hand: of two cells beside each other,
// in two views of the whole image.
func TestMatcherMeans(t *testing.T) {
	whole := [4]float32{0, 0, 1, 1}
	a := View{[]float32{2, 0, 0.6, 0.8}, whole}
	b := View{[]float32{0, 1, 3, 0}, whole}
	// The cosines are 0 and 1 of a's first cell with b's, 0.8 and 0.6 of the second.
	value := func(v float64) *float64 { return &v }
	for name, c := range map[string]struct {
		mask *Mask
		want MatchScores
	}{
		"no mask":                    {nil, MatchScores{}},
		"an object on a background":  {&Mask{2, 1, []uint8{0, 3}}, MatchScores{Inside: value(0.6), Across: value(0.9)}},
		"an object beside no class":  {&Mask{2, 1, []uint8{Ignore, 3}}, MatchScores{Inside: value(0.6)}},
		"objects of two classes":     {&Mask{2, 1, []uint8{1, 3}}, MatchScores{Inside: value(0.3), Across: value(0.9)}},
		"one object":                 {&Mask{2, 1, []uint8{3, 3}}, MatchScores{Inside: value(0.6)}},
		"a background":               {&Mask{2, 1, []uint8{0, 0}}, MatchScores{}},
		"an object, in a large mask": {&Mask{4, 2, []uint8{0, 0, 3, 3, 0, 0, 3, 3}}, MatchScores{Inside: value(0.6), Across: value(0.9)}},
	} {
		m := NewMatcher(1, 2, 2, 0.3)
		m.Add(a, b, c.mask)
		want := c.want
		want.Pairs, want.Queries, want.Chance, want.WithinOne = 1, 2, 0.5, 1
		want.Positive, want.Negative = value(0.3), value(0.9)
		if diff := cmp.Diff(want, m.Scores(), near(1e-6)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	alone := NewMatcher(1, 1, 2, 1)
	alone.Add(View{[]float32{1, 0}, whole}, View{[]float32{0, 1}, whole}, nil)
	if s := alone.Scores(); s.Top1 != 1 || s.Positive == nil || s.Negative != nil {
		t.Errorf("maps of one cell, which has no negative, score %+v", s)
	}
}

// TestMatcherReadsMasksUnderCells follows cells of crops, also mirrored ones,
// to the pixels that they show.
func TestMatcherReadsMasksUnderCells(t *testing.T) {
	mask := &Mask{Width: 9, Height: 5, Classes: make([]uint8, 45)}
	for i := range mask.Classes {
		mask.Classes[i] = uint8(i)
	}
	m := NewMatcher(1, 2, 1, 0.5)
	for _, c := range []struct {
		coord [4]float32
		want  []uint8
	}{
		{[4]float32{0, 0, 1, 1}, []uint8{2*9 + 2, 2*9 + 6}},
		{[4]float32{0, 0, 0.5, 0.5}, []uint8{9 + 1, 9 + 3}},
		{[4]float32{0.5, 0, 0, 0.5}, []uint8{9 + 3, 9 + 1}}, // mirrored
		{[4]float32{0.5, 0.5, 1, 1}, []uint8{3*9 + 5, 3*9 + 7}},
		{[4]float32{1, 1, 1, 1}, []uint8{44, 44}},
	} {
		if diff := cmp.Diff(c.want, m.classes(c.coord, mask)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.coord, diff)
		}
	}
}

func TestSimilarityIsTheCosine(t *testing.T) {
	got := Similarity(Points{[]float32{3, 0, 0, 2, -5, 0, 4, 4, 0, 0}, 2}, 0)
	if diff := cmp.Diff([]float64{1, 0, -1, math.Sqrt2 / 2, 0}, got, near(1e-6)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

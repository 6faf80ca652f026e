package evaluate

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/internal/gemm"
)

// View is one of two views of an image.
type View struct {
	Map []float32 // Rows x Cols x Channels
	// Coord is x0, y0, x1, y1 of the view: see augment.Coord.
	Coord [4]float32
}

// MatchScores say how well features tell where in an image a cell lies.
type MatchScores struct {
	Pairs   int `json:"pairs"`   // of views that have cells in common
	Queries int `json:"queries"` // cells that the other view shows too
	// Top1 is the part of the queries whose nearest neighbour among the other
	// view's cells is a true positive, WithinOne the part where it is one or
	// touches one, and Chance what Top1 is for neighbours at random. All are 0
	// without queries.
	Top1      float64 `json:"top1"`
	WithinOne float64 `json:"within_one"`
	Chance    float64 `json:"chance"`
	// Positive and Negative are the mean cosines of cells of both views that
	// are true positives, and that are not. nil: there are none.
	Positive *float64 `json:"similarity_positive"`
	Negative *float64 `json:"similarity_negative"`
	// Inside is the mean cosine of cells of both views in objects of one class,
	// Across that of one in an object and one outside of it: in another class's
	// or on the background. nil: there are none, as without masks.
	Inside *float64 `json:"similarity_inside,omitempty"`
	Across *float64 `json:"similarity_across,omitempty"`
}

// Matcher gathers the scores of pairs of views.
type Matcher struct {
	rows, cols, channels int
	threshold            float64
	scores               MatchScores
	top1, within, chance float64
	sums                 [4]mean // positive, negative, inside, across
}

type mean struct{ sum, n float64 }

func (m *mean) add(v float64) { m.sum += v; m.n++ }

// value is nil for the mean of nothing.
func (m *mean) value() *float64 {
	if m.n == 0 {
		return nil
	}
	v := m.sum / m.n
	return &v
}

const (
	positivePairs = iota
	negativePairs
	insidePairs
	acrossPairs
)

// NewMatcher returns a matcher for maps of this size; cells nearer than
// threshold larger cell diagonals are true positives.
func NewMatcher(rows, cols, channels int, threshold float64) *Matcher {
	return &Matcher{rows: rows, cols: cols, channels: channels, threshold: threshold}
}

// Add takes a pair of views into account; mask may be nil.
func (m *Matcher) Add(a, b View, mask *Mask) {
	n := m.rows * m.cols
	positive := make([]bool, n*n)
	if cells.Positive(positive, a.Coord, b.Coord, m.rows, m.cols, m.threshold) > 0 {
		m.scores.Pairs++
	}
	ua := unit(Points{a.Map, m.channels})
	ub := unit(Points{b.Map, m.channels})
	var classA, classB []uint8
	if mask != nil {
		classA, classB = m.classes(a.Coord, mask), m.classes(b.Coord, mask)
	}
	const block = 64 // cells whose cosines are computed at a time
	cosines := make([]float32, min(n, block)*n)
	for i := range n {
		if i%block == 0 {
			rows, dim := min(block, n-i), m.channels
			gemm.Mul(false, true, rows, n, dim, ua.Values[i*dim:(i+rows)*dim], dim, ub.Values, dim, false, cosines, n)
		}
		row := positive[i*n : (i+1)*n]
		best, top, matches := 0, math.Inf(-1), 0
		for j, cosine := range cosines[i%block*n:][:n] {
			c := float64(cosine)
			if c > top {
				best, top = j, c
			}
			if row[j] {
				matches++
				m.sums[positivePairs].add(c)
			} else {
				m.sums[negativePairs].add(c)
			}
			if mask != nil && classA[i] != Ignore && classB[j] != Ignore && (classA[i] > 0 || classB[j] > 0) {
				if classA[i] == classB[j] {
					m.sums[insidePairs].add(c)
				} else {
					m.sums[acrossPairs].add(c)
				}
			}
		}
		if matches == 0 {
			continue
		}
		m.scores.Queries++
		m.chance += float64(matches) / float64(n)
		if row[best] {
			m.top1++
		}
		if m.touches(row, best) {
			m.within++
		}
	}
}

// touches says whether a cell or one of its eight neighbours is set.
func (m *Matcher) touches(set []bool, cell int) bool {
	y, x := cell/m.cols, cell%m.cols
	for j := max(0, y-1); j <= min(m.rows-1, y+1); j++ {
		for i := max(0, x-1); i <= min(m.cols-1, x+1); i++ {
			if set[j*m.cols+i] {
				return true
			}
		}
	}
	return false
}

// classes are those at the centres of a view's cells. 0 is the background.
func (m *Matcher) classes(coord [4]float32, mask *Mask) []uint8 {
	var classes []uint8
	for y := range m.rows {
		for x := range m.cols {
			fx := float64(coord[0]) + (float64(x)+0.5)/float64(m.cols)*float64(coord[2]-coord[0])
			fy := float64(coord[1]) + (float64(y)+0.5)/float64(m.rows)*float64(coord[3]-coord[1])
			// Coordinates are fractions from the first pixel's centre to the last's.
			classes = append(classes, mask.At((fx*float64(mask.Width-1)+0.5)/float64(mask.Width), (fy*float64(mask.Height-1)+0.5)/float64(mask.Height)))
		}
	}
	return classes
}

// Scores are those of all pairs so far.
func (m *Matcher) Scores() MatchScores {
	s := m.scores
	if s.Queries > 0 {
		q := float64(s.Queries)
		s.Top1, s.WithinOne, s.Chance = m.top1/q, m.within/q, m.chance/q
	}
	s.Positive, s.Negative = m.sums[positivePairs].value(), m.sums[negativePairs].value()
	s.Inside, s.Across = m.sums[insidePairs].value(), m.sums[acrossPairs].value()
	return s
}

func dot(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// Similarity is the cosine of every cell of a map with one of them.
func Similarity(p Points, cell int) []float64 {
	u := unit(p)
	cosines := make([]float64, u.Len())
	for i := range cosines {
		cosines[i] = dot(u.At(i), u.At(cell))
	}
	return cosines
}

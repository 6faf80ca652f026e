package devicetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/seed-436d2970/pixpro/internal/cells"
	"github.com/seed-436d2970/pixpro/train/device"
)

func testMultiply(h *harness) {
	for _, p := range []device.Product{
		{Batch: 3, M: 5, N: 7, K: 4},
		{Batch: 2, M: 6, N: 3, K: 9, TransposeB: true},
		{Batch: 4, M: 3, N: 5, K: 8, TransposeA: true, Accumulate: true},
		{Batch: 1, M: 301, N: 17, K: 13, TransposeB: true, Accumulate: true},
		{Batch: 2, M: 259, N: 2, K: 3, TransposeA: true},
		{Batch: 5, M: 1, N: 1, K: 11, TransposeB: true},
	} {
		a, b, before := h.random(p.Batch, p.M*p.K), h.random(p.Batch, p.K*p.N), h.random(p.Batch, p.M*p.N)
		want := multiply(a, b, p)
		c := h.garbage(p.Batch, p.M*p.N)
		if p.Accumulate {
			c, want = h.put(before), plus(before, want)
		}
		h.d.Multiply(c, h.put(a), h.put(b), p)
		h.equal(fmt.Sprintf("%+v", p), c, want)
	}
	c := h.garbage(2, 3)
	empty := h.d.Alloc(0)
	h.d.Multiply(c, empty, empty, device.Product{Batch: 1, M: 2, N: 3})
	h.equal("products of no columns", c, newArray(2, 3))
}

func testCombine(h *harness) {
	a, b := h.random(7, 41), h.random(7, 41)
	want, scaled := newArray(7, 41), newArray(7, 41)
	for i := range want.data {
		scaled.data[i] = -1.5 * a.data[i]
		want.data[i] = scaled.data[i] + 0.25*b.data[i]
	}
	y, ta, tb := h.garbage(7, 41), h.put(a), h.put(b)
	h.d.Combine(y, -1.5, ta, 0.25, tb)
	h.equal("a and b", y, want)
	h.d.Combine(y, -1.5, ta, 0, device.Tensor{})
	h.equal("a alone", y, scaled)
	h.d.Combine(tb, -1.5, ta, 0.25, tb)
	h.equal("in place of b", tb, want)
}

func testCopy(h *harness) {
	for _, put := range []func(array) device.Tensor{h.put, h.activation} {
		src, dst := h.random(2, 5, 7), h.random(11, 9)
		const rows, columns = 4, 6
		to, from := device.Place{Row: 6, Column: 2}, device.Place{Row: 3, Column: 1}
		ts, td := put(src), put(dst)
		h.d.Copy(td, to, ts, from, rows, columns)
		for r := range rows {
			for c := range columns {
				dst.data[(to.Row+r)*9+to.Column+c] = src.data[(from.Row+r)*7+from.Column+c]
			}
		}
		// A copy rounds nothing.
		for i, v := range h.get(td) {
			if float64(v) != float64(float32(dst.data[i])) && h.significant == 24 {
				h.Fatalf("value %d is %g, want %g", i, v, dst.data[i])
			}
		}
		h.equal("copy", td, dst)
	}
}

func testReLU(h *harness) {
	for _, n := range []int{3, 4} { // without and with vector loads
		x, dy := h.random(2, 3, 5, n), h.random(2, 3, 5, n)
		x.data[1] = 0
		y, dx := newArray(x.shape...), newArray(x.shape...)
		for i, v := range x.data {
			if v > 0 {
				y.data[i], dx.data[i] = v, dy.data[i]
			}
		}
		ty, tdx := h.output(x.shape...), h.output(x.shape...)
		h.d.ReLU(ty, h.activation(x))
		h.equal("y", ty, y)
		h.d.ReLUBackward(tdx, h.activation(dy), ty)
		h.equal("dx", tdx, dx)
		tdy := h.activation(dy)
		h.d.ReLUBackward(tdy, tdy, ty)
		h.equal("dx in place", tdy, dx)
	}
}

func testUpsample(h *harness) {
	for _, c := range []struct{ channels, factor int }{{5, 2}, {8, 2}, {3, 3}, {4, 1}} {
		x := h.random(2, 3, 4, c.channels)
		forward := func() array { return upsample(x, c.factor) }
		y := forward()
		dy := h.random(y.shape...)
		ty, dx := h.output(y.shape...), h.output(x.shape...)
		h.d.Upsample(ty, h.activation(x))
		h.equal(fmt.Sprintf("%+v: y", c), ty, y)
		h.d.UpsampleBackward(dx, h.activation(dy))
		h.equal(fmt.Sprintf("%+v: dx", c), dx, gradient(x, dy, forward))
	}
}

// masked are rows of values with a mask: absent, of some, and, in row 0, of none.
type masked struct {
	x, mask array
	tensor  device.Tensor // of the mask
}

func (h *harness) masks(rows, columns int) []masked {
	some, none := h.random(rows, columns), h.random(rows, columns)
	m := newArray(rows, columns)
	for i := range m.data {
		if h.rng.IntN(3) > 0 || i%columns == 2 {
			m.data[i] = 1
		}
	}
	empty := array{m.shape, slices.Clone(m.data)}
	clear(empty.data[:columns])
	return []masked{{h.random(rows, columns), array{}, device.Tensor{}}, {some, m, h.put(m)}, {none, empty, h.put(empty)}}
}

func (m *masked) passes(i int) bool { return m.mask.data == nil || m.mask.data[i] != 0 }

// rowSizes are rows that take a warp and rows that take a block.
var rowSizes = [][2]int{{5, 7}, {37, 33}, {3, 1100}}

func testSoftmax(h *harness) {
	for _, size := range rowSizes {
		for i, m := range h.masks(size[0], size[1]) {
			const tau = 0.4
			what := fmt.Sprintf("%v, mask %d: ", size, i)
			dy := h.random(size[0], size[1])
			y := softmax(m, tau)
			ty, dx := h.garbage(size[0], size[1]), h.garbage(size[0], size[1])
			h.d.Softmax(ty, h.put(m.x), m.tensor, tau)
			h.equal(what+"y", ty, y)
			h.d.SoftmaxBackward(dx, h.put(dy), ty, tau)
			if size[1] < 100 { // finite differences take the square of this
				h.equal(what+"dx", dx, gradient(m.x, dy, func() array { return softmax(m, tau) }))
			} else {
				h.along(what+"dx", dx, m.x, dy, func() array { return softmax(m, tau) })
			}
		}
	}
}

// along compares a gradient with the derivative along a random direction.
func (h *harness) along(what string, got device.Tensor, x, dy array, forward func() array) {
	h.Helper()
	direction := h.random(x.shape...)
	var sum, size float64
	for i, v := range h.get(got) {
		sum += float64(v) * direction.data[i]
		size += float64(v) * float64(v)
	}
	want := slope(x, direction, dy, forward)
	if !(math.Abs(sum-want) <= 10*h.tolerance*math.Sqrt(size)) {
		h.Errorf("%s along a random direction is %g, want %g", what, sum, want)
	}
}

func testLogSumExp(h *harness) {
	for _, size := range rowSizes {
		for i, m := range h.masks(size[0], size[1]) {
			const tau = 0.4
			rows, columns := size[0], size[1]
			what := fmt.Sprintf("%v, mask %d: ", size, i)
			dy := h.random(rows)
			forward := func() array { return logSumExp(m, tau) }
			y, tx := forward(), h.put(m.x)
			ty, dx := h.garbage(rows), h.garbage(rows, columns)
			h.d.LogSumExp(ty, tx, m.tensor, tau)
			h.d.LogSumExpBackward(dx, h.put(dy), ty, tx, m.tensor, tau)
			if math.IsInf(y.data[0], -1) {
				// The row without values: -infinity, and no gradient.
				if got := h.get(ty)[0]; !math.IsInf(float64(got), -1) {
					h.Errorf("%sof nothing: %g", what, got)
				}
				if got := h.get(dx)[:columns]; slices.ContainsFunc(got, func(v float32) bool { return v != 0 }) {
					h.Errorf("%sthe gradient of nothing is %v", what, got)
				}
				finite := func(a array) array { return array{[]int{rows - 1}, a.data[1:]} }
				h.equal(what+"y", h.put(array{[]int{rows - 1}, widened(h.get(ty)[1:])}), finite(y))
				dy.data[0] = 0
				m.mask.data[2] = 1 // only to make the reference's row finite
			} else {
				h.equal(what+"y", ty, y)
			}
			if columns < 100 {
				want := gradient(m.x, dy, forward)
				h.equal(what+"dx", dx, want)
			} else {
				h.along(what+"dx", dx, m.x, dy, forward)
			}
		}
	}
	// Exponentials of large values do not overflow.
	y := h.garbage(1)
	h.d.LogSumExp(y, h.put(array{[]int{1, 2}, []float64{500, 500}}), device.Tensor{}, 0.5)
	h.equal("log-sum-exp of large values", y, array{[]int{1}, []float64{1000 + math.Ln2}})
}

func widened(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func testMean(h *harness) {
	for _, size := range rowSizes {
		for i, m := range h.masks(size[0], size[1]) {
			what := fmt.Sprintf("%v, mask %d: ", size, i)
			dy := h.random(size[0])
			forward := func() array { return mean(m) }
			y := forward()
			x := array{m.x.shape, slices.Clone(m.x.data)}
			for j := range x.data {
				if !m.passes(j) {
					x.data[j] = math.Inf(1) // must not matter
				}
			}
			ty, dx := h.garbage(size[0]), h.garbage(size[0], size[1])
			h.d.Mean(ty, h.put(x), m.tensor)
			h.equal(what+"y", ty, y)
			h.d.MeanBackward(dx, h.put(dy), m.tensor)
			if size[1] < 100 {
				h.equal(what+"dx", dx, gradient(m.x, dy, forward))
			} else {
				h.along(what+"dx", dx, m.x, dy, forward)
			}
		}
	}
}

func testArgMax(h *harness) {
	for _, size := range rowSizes {
		x := h.random(size[0], size[1])
		x.data[size[1]-1], x.data[size[1]/2] = 9, 9 // the first of equal values
		want := newArray(size[0])
		for r := range size[0] {
			row := x.data[r*size[1]:][:size[1]]
			want.data[r] = float64(slices.Index(row, slices.Max(row)))
		}
		index := h.garbage(size[0])
		h.d.ArgMax(index, h.put(x))
		for r, v := range h.get(index) {
			if float64(v) != want.data[r] {
				h.Errorf("%v: the largest of row %d is at %g, want %g", size, r, v, want.data[r])
			}
		}
	}
}

func testGather(h *harness) {
	const batch, rows, columns, count = 3, 5, 7, 11
	x, index, before := h.random(batch, rows, columns), newArray(batch, count), h.random(batch, rows, columns)
	for i := range index.data {
		index.data[i] = float64(h.rng.IntN(rows))
	}
	y, dy := newArray(batch, count, columns), h.random(batch, count, columns)
	dx := array{before.shape, slices.Clone(before.data)}
	for i := range batch * count {
		for c := range columns {
			at := (i/count*rows+int(index.data[i]))*columns + c
			y.data[i*columns+c] = x.data[at]
			dx.data[at] += dy.data[i*columns+c]
		}
	}
	ty, tdx, ti := h.garbage(batch, count, columns), h.put(before), h.put(index)
	h.d.Gather(ty, h.put(x), ti)
	h.equal("y", ty, y)
	h.d.GatherBackward(tdx, h.put(dy), ti)
	h.equal("dx", tdx, dx)

	bad := h.put(array{[]int{1, 4}, []float64{-1, 2, 1.5, 1}})
	ty, tdx = h.garbage(4, 3), h.zeros(2, 3)
	h.d.Gather(ty, h.put(array{[]int{2, 3}, []float64{1, 2, 3, 4, 5, 6}}), bad)
	for i, v := range h.get(ty) {
		if last := i/3 == 3; last != (v == v) {
			h.Errorf("row %d by a bad index, or row 3 by a good one, is %g", i/3, v)
		}
	}
	h.d.GatherBackward(tdx, h.put(constant(1, []int{4, 3})), bad)
	h.equal("dx of bad indices", tdx, array{[]int{2, 3}, []float64{0, 0, 0, 1, 1, 1}})
}

func testPositives(h *harness) {
	const n, rows, cols = 5, 3, 4
	coordQ, coordK := h.crops(n), h.crops(n)
	m := device.Matching{CoordQ: h.put(coordQ), CoordK: h.put(coordK), Threshold: 0.7, KeyShift: 2}
	mask := h.garbage(n, rows*cols, rows*cols)
	h.d.Positives(mask, rows, cols, m)
	got := h.get(mask)
	count := 0
	for i := range n {
		want := make([]bool, rows*cols*rows*cols)
		count += cells.Positive(want, crop(coordQ, i), crop(coordK, (i+2)%n), rows, cols, 0.7)
		for j, positive := range want {
			if v := got[i*len(want)+j]; positive != (v == 1) || !positive && v != 0 {
				h.Fatalf("image %d, pair %d: mask %g, positive %v", i, j, v, positive)
			}
		}
	}
	if count == 0 {
		h.Fatal("no pair is positive, so that nothing was tested")
	}
}

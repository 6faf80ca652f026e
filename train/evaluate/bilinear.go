package evaluate

// tap is where a point lies between two cells of a line: the value is (1 -
// Weight) * cell Low + Weight * cell High.
type tap struct {
	low, high int
	weight    float32
}

// taps places points, evenly over a line of cells: point i at (i + 0.5) / points
// of the line, beyond the outer cells' centres as there. It is the bilinear
// interpolation of PyTorch with align_corners=False.
func taps(cells, points int) []tap {
	t := make([]tap, points)
	for i := range t {
		at := max(0, (float64(i)+0.5)*float64(cells)/float64(points)-0.5)
		low := min(int(at), cells-1)
		t[i] = tap{low, min(low+1, cells-1), float32(at - float64(low))}
	}
	return t
}

// upsampler interpolates maps of scores, rows x cols x channels.
type upsampler struct {
	cols, channels int
	x, y           []tap
	line           []float32 // a line of cells between two rows
}

func newUpsampler(rows, cols, channels, height, width int) *upsampler {
	return &upsampler{cols, channels, taps(cols, width), taps(rows, height), make([]float32, cols*channels)}
}

// row computes row y of the interpolated map into out, width x channels.
func (u *upsampler) row(out, scores []float32, y int) {
	t, n := u.y[y], len(u.line)
	low, high := scores[t.low*n:][:n], scores[t.high*n:][:n]
	for i, v := range low {
		u.line[i] = v + t.weight*(high[i]-v)
	}
	for x, t := range u.x {
		low, high := u.line[t.low*u.channels:][:u.channels], u.line[t.high*u.channels:][:u.channels]
		to := out[x*u.channels:][:u.channels]
		for c, v := range low {
			to[c] = v + t.weight*(high[c]-v)
		}
	}
}

// spread adds the gradient of row y, width x channels, to that of the scores.
func (u *upsampler) spread(grad, row []float32, y int) {
	clear(u.line)
	for x, t := range u.x {
		low, high := u.line[t.low*u.channels:][:u.channels], u.line[t.high*u.channels:][:u.channels]
		for c, v := range row[x*u.channels:][:u.channels] {
			low[c] += (1 - t.weight) * v
			high[c] += t.weight * v
		}
	}
	t, n := u.y[y], len(u.line)
	low, high := grad[t.low*n:][:n], grad[t.high*n:][:n]
	for i, v := range u.line {
		low[i] += (1 - t.weight) * v
		high[i] += t.weight * v
	}
}

package augment

// luma is Pillow's conversion to grey: ITU-R 601-2 weights in 16-bit fixed
// point, rounded.
func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// blend goes from a to b by a factor in single precision, also beyond both, as
// Pillow's Image.blend: a + factor*(b-a), cut to 0 … 255 and truncated.
func blend(a, b uint8, factor float32) uint8 {
	return truncate(float32(a) + step(int(b)-int(a), factor))
}

// step is factor*difference, limited to what leads beyond 0 … 255 from
// anywhere but can still be truncated to an integer.
func step(difference int, factor float32) float32 {
	return min(max(factor*float32(difference), -1024), 1024)
}

func truncate(v float32) uint8 {
	return uint8(min(max(int32(v), 0), 255))
}

// HFlip mirrors left and right.
func (p Planes) HFlip() {
	p.check()
	for i := 0; i < len(p.Pix); i += p.Width {
		row := p.Pix[i : i+p.Width]
		for a, b := 0, len(row)-1; a < b; a, b = a+1, b-1 {
			row[a], row[b] = row[b], row[a]
		}
	}
}

// Brightness blends from black to the view: 0 is black, 1 changes nothing.
func (p Planes) Brightness(factor float64) {
	p.check()
	p.blendFrom(0, factor)
}

// Contrast blends from the view's mean grey to the view: 0 is an even grey, 1
// changes nothing.
func (p Planes) Contrast(factor float64) {
	r, g, b := p.rgb()
	done, sum := sumLumaVector(r, g, b)
	for i := done; i < len(r); i++ {
		sum += uint64(luma(r[i], g[i], b[i]))
	}
	mean := float64(sum) / float64(len(r))
	p.blendFrom(uint8(int(mean+0.5)), factor)
}

// blendFrom blends every sample from a fixed value.
func (p Planes) blendFrom(from uint8, factor float64) {
	rest := p.Pix[blendVector(p.Pix, from, float32(factor)):]
	if len(rest) == 0 {
		return
	}
	var table [256]uint8
	for v := range table {
		table[v] = blend(from, uint8(v), float32(factor))
	}
	lookUp(rest, &table)
}

// Solarize inverts the samples from the threshold on.
func (p Planes) Solarize(threshold int) {
	p.check()
	rest := p.Pix
	if 0 <= threshold && threshold <= 255 {
		rest = rest[solarizeVector(p.Pix, threshold):]
	}
	var table [256]uint8
	for v := range table {
		table[v] = uint8(v)
		if v >= threshold {
			table[v] = uint8(255 - v)
		}
	}
	lookUp(rest, &table)
}

func lookUp(pix []uint8, table *[256]uint8) {
	for i, v := range pix {
		pix[i] = table[v]
	}
}

// Grayscale sets all planes to the luma.
func (p Planes) Grayscale() {
	r, g, b := p.rgb()
	done := grayscaleVector(r, g, b)
	r, g, b = r[done:], g[done:], b[done:]
	for i, v := range r {
		r[i] = luma(v, g[i], b[i])
	}
	copy(g, r)
	copy(b, r)
}

// Saturation blends from each pixel's luma to the pixel: 0 is grey, 1 changes
// nothing.
func (p Planes) Saturation(factor float64) {
	r, g, b := p.rgb()
	done := saturationVector(r, g, b, float32(factor))
	if done == len(r) {
		return
	}
	r, g, b = r[done:], g[done:], b[done:]
	// steps[255+d] is the way that a sample d above the luma goes from it.
	var steps [511]float32
	for i := range steps {
		steps[i] = step(i-255, float32(factor))
	}
	for i, v := range r {
		l := luma(v, g[i], b[i])
		grey, base := float32(l), 255-int(l)
		r[i] = truncate(grey + steps[base+int(v)])
		g[i] = truncate(grey + steps[base+int(g[i])])
		b[i] = truncate(grey + steps[base+int(b[i])])
	}
}

package augment

// solarizeFrom inverts the samples that are not below the threshold, which may
// lie between two levels.
func (p Planes) solarizeFrom(threshold float64) {
	first := 256
	for v := 255; v >= 0 && float64(v) >= threshold; v-- {
		first = v
	}
	p.Solarize(first)
}

// Posterize keeps the given number of high bits of each sample, 0 to 8.
func (p Planes) Posterize(bits int) {
	p.check()
	mask := uint8(0xFF << (8 - bits))
	for i := range p.Pix {
		p.Pix[i] &= mask
	}
}

// AutoContrast stretches each plane so that its levels reach from 0 to 255. A
// plane of one level stays as it is.
func (p Planes) AutoContrast() {
	p.eachHistogram(func(counts *[256]int, table *[256]uint8) bool {
		lo, hi := 0, 255
		for lo < 255 && counts[lo] == 0 {
			lo++
		}
		for hi > 0 && counts[hi] == 0 {
			hi--
		}
		if hi <= lo {
			return false
		}
		scale := 255 / float64(hi-lo)
		offset := float64(-float64(lo) * scale)
		for v := range table {
			table[v] = uint8(min(max(int(float64(float64(v)*scale)+offset), 0), 255))
		}
		return true
	})
}

// Equalize spreads the levels of each plane so that all are about as frequent.
func (p Planes) Equalize() {
	p.eachHistogram(func(counts *[256]int, table *[256]uint8) bool {
		total, last := 0, 0
		for _, n := range counts {
			total += n
			if n > 0 {
				last = n
			}
		}
		step := (total - last) / 255
		if step == 0 {
			return false
		}
		sum := step / 2
		for v := range table {
			table[v] = uint8(min(sum/step, 255))
			sum += counts[v]
		}
		return true
	})
}

// eachHistogram replaces the levels of each plane by a table that is made from
// their counts, if one is.
func (p Planes) eachHistogram(build func(counts *[256]int, table *[256]uint8) bool) {
	r, g, b := p.rgb()
	for _, plane := range [3][]uint8{r, g, b} {
		var counts [256]int
		for _, v := range plane {
			counts[v]++
		}
		var table [256]uint8
		if build(&counts, &table) {
			lookUp(plane, &table)
		}
	}
}

// Sharpness blends from a smoothed view to the view: 0 is smooth, 1 changes
// nothing, more sharpens. The smoothing weighs a pixel 5 and the eight around it
// 1; pixels at the border stay.
func (p Planes) Sharpness(factor float64, s *Scratch) {
	r, g, b := p.rgb()
	if p.Width < 3 || p.Height < 3 {
		return
	}
	f := float32(factor)
	for _, plane := range [3][]uint8{r, g, b} {
		s.blur.plane = grow(s.blur.plane, len(plane))
		was := s.blur.plane
		copy(was, plane)
		for y := 1; y < p.Height-1; y++ {
			above, row, below := was[(y-1)*p.Width:y*p.Width], was[y*p.Width:(y+1)*p.Width], was[(y+1)*p.Width:(y+2)*p.Width]
			column := func(x int) uint32 { return uint32(above[x]) + uint32(row[x]) + uint32(below[x]) }
			left, middle := column(0), column(1)
			out := plane[y*p.Width : (y+1)*p.Width]
			for x := 1; x < p.Width-1; x++ {
				right := column(x + 1)
				sum := left + middle + right + 4*uint32(row[x])
				smooth := uint8((2*sum + 13) / 26) // sum/13, rounded
				out[x] = blend(smooth, row[x], f)
				left, middle = middle, right
			}
		}
	}
}

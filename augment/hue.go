package augment

import (
	"math"
	"sync"
)

// Hue turns the colour circle by factor turns, -0.5 to 0.5, through Pillow's
// 8-bit HSV: the shift is a whole number of 256ths, factor*255 cut towards
// zero, and the way through HSV changes many colours slightly even at 0.
func (p Planes) Hue(factor float64) {
	r, g, b := p.rgb()
	shift := uint8(int(factor * 255)) // wraps around, as numpy's uint8 does
	done := hueVector(r, g, b, shift)
	r, g, b = r[done:], g[done:len(r)], b[done:len(r)]
	t := hsvTables()
	for i, vr := range r {
		h, s, v := t.fromRGB(vr, g[i], b[i])
		r[i], g[i], b[i] = t.toRGB(h+shift, s, v)
	}
}

// hsv holds the conversions' tables.
type hsv struct {
	// hue is indexed by the largest channel (R, G, B) and by chroma^2 + chroma +
	// the difference of the other two, which is unique as the difference lies
	// between -chroma and chroma.
	hue [3][1 << 16]uint8
	// perValue is 255/value with 16 fractional bits, rounded up: enough for
	// the whole part of chroma*255/value to be right.
	perValue [256]uint32
	sectors  [256]sector // of each hue
}

// sector is a sixth of the colour circle.
type sector struct {
	way     uint32 // how far the middle channel is from the value to the smallest, in 255ths
	r, g, b uint8  // shifts that find the channels in value + middle<<8 + smallest<<16
}

var hsvTables = sync.OnceValue(newHSV)

func newHSV() *hsv {
	t := new(hsv)
	for chroma := 1; chroma < 256; chroma++ {
		for d := -chroma; d <= chroma; d++ {
			// Distances from the largest channel in units of the chroma: that of
			// the smallest is 1.
			middle := float64(float32(chroma-max(d, -d)) / float32(chroma))
			ahead := 1 - middle
			if d < 0 {
				ahead = middle - 1
			}
			for channel := range t.hue {
				t.hue[channel][chroma*chroma+chroma+d] = hueOf(float32(2*float64(channel) + ahead))
			}
		}
	}
	for value := 1; value < 256; value++ {
		t.perValue[value] = uint32((255<<16)/value + 1)
	}
	const value, middle, smallest = 0, 8, 16
	order := [6][3]uint8{
		{value, middle, smallest}, {middle, value, smallest}, {smallest, value, middle},
		{smallest, middle, value}, {middle, smallest, value}, {value, smallest, middle},
	}
	for h := range t.sectors {
		n, way := 6*h/255, 6*h%255
		if n%2 == 0 {
			way = 255 - way
		}
		o := order[n%6]
		t.sectors[h] = sector{uint32(way), o[0], o[1], o[2]}
	}
	return t
}

// hueOf maps sixths of the circle to 0 … 254 with Pillow's mixture of single
// and double precision, whose rounding decides where the result is whole.
func hueOf(sixths float32) uint8 {
	h := float32(math.Mod(float64(sixths)/6+1, 1))
	return uint8(float64(h) * 255)
}

// fromRGB gives hue and saturation 0 for grey, where the chroma is 0.
func (t *hsv) fromRGB(r, g, b uint8) (h, s, v uint8) {
	ri, gi, bi := int(r), int(g), int(b)
	largest := max(ri, gi, bi)
	chroma := largest - min(ri, gi, bi)
	channel, difference := 2, ri-gi
	if gi == largest {
		channel, difference = 1, bi-ri
	}
	if ri == largest {
		channel, difference = 0, gi-bi
	}
	h = t.hue[channel][uint16(chroma*chroma+chroma+difference)]
	s = uint8(uint32(chroma) * t.perValue[largest] >> 16)
	return h, s, uint8(largest)
}

// toRGB rounds to nearest; halves do not occur, as the divisors are odd.
func (t *hsv) toRGB(h, s, v uint8) (r, g, b uint8) {
	sector := &t.sectors[h]
	value, saturation := uint32(v), uint32(s)
	smallest := (value*(255-saturation) + 255/2) / 255
	middle := (value*(255*255-saturation*sector.way) + 255*255/2) / (255 * 255)
	all := value | middle<<8 | smallest<<16
	return uint8(all >> sector.r), uint8(all >> sector.g), uint8(all >> sector.b)
}

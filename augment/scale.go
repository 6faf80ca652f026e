package augment

// LargestScale returns the most, of 1, 2, 4 and 8, that a picture's sides can be
// divided by so that the crops of all views still have at least the size of the
// views, in pixels. decode.Decoder.DecodeScaled decodes at such a scale.
func LargestScale(viewWidth, viewHeight int, views ...ViewParams) int {
	divisor := 8
	for _, v := range views {
		for divisor > 1 && (v.Crop.Width < divisor*viewWidth || v.Crop.Height < divisor*viewHeight) {
			divisor /= 2
		}
	}
	return divisor
}

// Scaled returns the parameters for an image that was scaled, from one size in
// pixels to another: the crop moves to the nearest whole pixels. They differ
// from what was drawn; coordinates come from the latter.
func (p *ViewParams) Scaled(fromWidth, fromHeight, toWidth, toHeight int) ViewParams {
	s := *p
	s.Crop.Left, s.Crop.Width = scaleSpan(p.Crop.Left, p.Crop.Width, fromWidth, toWidth)
	s.Crop.Top, s.Crop.Height = scaleSpan(p.Crop.Top, p.Crop.Height, fromHeight, toHeight)
	return s
}

// scaleSpan rounds both ends, and keeps at least one pixel.
func scaleSpan(first, n, from, to int) (int, int) {
	nearest := func(v int) int { return (2*v*to + from) / (2 * from) }
	start := min(nearest(first), to-1)
	return start, max(nearest(first+n)-start, 1)
}

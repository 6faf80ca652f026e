package synth

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"
)

// scene is all that was drawn at random for one picture, before the camera.
type scene struct {
	width, height int
	background    surface
	light         [3]float64 // unit vector towards the light, z towards the viewer
	slope         float64    // how much brighter the lit side of the picture is
	shadow        float64    // darkness of shadows, 0 to 1
	objects       []object   // back to front; the last gives the picture its class
}

// object is a shape of one texture.
type object struct {
	class    int
	cx, cy   float64 // centre, pixels
	radius   float64 // of the circle around the shape, pixels
	sin, cos float64 // of its rotation
	edge     shape
	pattern  texture
	sin2     float64 // of the pattern's rotation against the shape
	cos2     float64
	colours  [2]rgb
	bevel    float64 // width of the rounded rim as a share of the radius
	gloss    float64 // strength of the highlight
}

// drawScene draws a picture whose main object has the texture of the class;
// the others have any of the first classes.
func drawScene(rng *rand.Rand, class, classes, width, height int) *scene {
	s := &scene{width: width, height: height}
	background, tone := drawBackground(rng, width, height)
	s.background = background
	sin, cos := math.Sincos(between(rng, 0, 2*math.Pi))
	up := between(rng, 0.5, 0.85)
	flat := math.Sqrt(1 - up*up)
	s.light = [3]float64{flat * cos, flat * sin, up}
	s.slope = between(rng, 0.1, 0.6)
	s.shadow = between(rng, 0.35, 0.7)

	side := float64(min(width, height))
	main := drawObject(rng, class, side*between(rng, 0.27, 0.40), tone)
	s.place(rng, &main, nil)
	for range rng.IntN(3) {
		other := drawObject(rng, rng.IntN(classes), side*between(rng, 0.12, 0.2), tone)
		s.place(rng, &other, append([]object{main}, s.objects...))
		s.objects = append(s.objects, other)
	}
	s.objects = append(s.objects, main)
	return s
}

func drawObject(rng *rand.Rand, class int, radius float64, background oklch) object {
	o := object{class: class, radius: radius, edge: drawShape(rng)}
	o.sin, o.cos = math.Sincos(between(rng, 0, 2*math.Pi))
	o.sin2, o.cos2 = math.Sincos(between(rng, 0, 2*math.Pi))
	// Below 6 pixels a period, blur and JPEG leave nothing of a pattern.
	o.pattern = textures[class].draw(rng, max(6, radius*between(rng, 0.28, 0.5)))
	for i, c := range drawPalette(rng, background) {
		o.colours[i] = c.rgb()
	}
	o.bevel = between(rng, 0.15, 0.9)
	o.gloss = between(rng, 0, 0.5)
	return o
}

// place draws a centre, at best one that keeps the object apart from the
// others, and lets no more than a quarter of its radius leave the picture.
func (s *scene) place(rng *rand.Rand, o *object, others []object) {
	best := math.Inf(-1)
	for range 12 {
		margin := 0.75 * o.radius
		x := between(rng, margin, float64(s.width)-margin)
		y := between(rng, margin, float64(s.height)-margin)
		room := 0.0 // to the nearest other, negative if they overlap
		for _, p := range others {
			room = min(room, math.Hypot(x-p.cx, y-p.cy)-o.radius-p.radius)
		}
		if room > best {
			best, o.cx, o.cy = room, x, y
		}
	}
}

// distance is the signed distance from the object's edge in pixels.
func (o *object) distance(x, y float64) float64 {
	x, y = (x-o.cx)/o.radius, (y-o.cy)/o.radius
	return o.radius * o.edge(o.cos*x+o.sin*y, o.cos*y-o.sin*x)
}

// canvas is a picture in linear light.
type canvas struct {
	width, height int
	pix           []rgb // row by row
}

// maskPalette colours the indices of a mask for viewers: background black.
var maskPalette = func() color.Palette {
	p := color.Palette{color.RGBA{A: 255}}
	for i := range textures {
		c := oklch{0.72, 0.16, 360 * float64(i) / float64(len(textures))}.rgb()
		p = append(p, color.RGBA{encodeSRGB(c[0]), encodeSRGB(c[1]), encodeSRGB(c[2]), 255})
	}
	return p
}()

// render draws the scene and the class index of every pixel (0 background,
// else 1+class).
func (s *scene) render() (*canvas, *image.Paletted) {
	c := &canvas{s.width, s.height, make([]rgb, s.width*s.height)}
	mask := image.NewPaletted(image.Rect(0, 0, s.width, s.height), maskPalette)
	for y := range s.height {
		for x := range s.width {
			c.pix[y*s.width+x] = s.background(float64(x)+0.5, float64(y)+0.5)
		}
	}
	for i := range s.objects {
		s.drawShadow(c, &s.objects[i])
		s.drawSurface(c, mask, &s.objects[i])
	}
	for y := range s.height {
		for x := range s.width {
			across := (float64(x)/float64(s.width)-0.5)*s.light[0] + (float64(y)/float64(s.height)-0.5)*s.light[1]
			p := &c.pix[y*s.width+x]
			*p = p.scale(1 + s.slope*across)
		}
	}
	return c, mask
}

// drawShadow darkens what lies behind the object, away from the light.
func (s *scene) drawShadow(c *canvas, o *object) {
	length := 0.3 * o.radius
	dx, dy := length*s.light[0], length*s.light[1]
	soft := 0.22 * o.radius
	s.around(o, length+soft, func(i int, x, y float64) {
		dark := s.shadow * smoothstep(soft, -soft, o.distance(x+dx, y+dy))
		c.pix[i] = c.pix[i].scale(1 - dark)
	})
}

// drawSurface draws the object's texture, shaded as a plate with a rim that
// falls off towards the edge as a quarter circle.
func (s *scene) drawSurface(c *canvas, mask *image.Paletted, o *object) {
	rim := o.bevel * o.radius
	s.around(o, 1, func(i int, x, y float64) {
		d := o.distance(x, y)
		cover := clamp(0.5-d, 0, 1) // of the pixel, if the edge were straight
		if cover == 0 {
			return
		}
		if cover >= 0.5 {
			mask.Pix[i] = uint8(1 + o.class)
		}
		lit, gloss := s.light[2], 0.0
		if lean := clamp(1+d/rim, 0, 0.95); lean > 0 {
			// The normal leans outwards, along the gradient of the distance.
			gx, gy := o.distance(x+0.5, y)-d, o.distance(x, y+0.5)-d
			if g := math.Hypot(gx, gy); g > 0 {
				gx, gy = gx/g*lean, gy/g*lean
			}
			up := math.Sqrt(max(1-gx*gx-gy*gy, 0))
			lit = max(gx*s.light[0]+gy*s.light[1]+up*s.light[2], 0)
			// Blinn's highlight: the cosine between the normal and the vector
			// halfway from the light to a viewer straight above.
			half := (lit + up) / math.Sqrt(2+2*s.light[2])
			gloss = o.gloss * math.Pow(half, 40)
		}
		u, v := x-o.cx, y-o.cy
		u, v = o.cos2*u+o.sin2*v, o.cos2*v-o.sin2*u
		colour := mixRGB(o.colours[0], o.colours[1], o.pattern(u, v))
		colour = colour.scale(0.35 + 0.85*lit)
		for k := range colour {
			colour[k] += 0.6 * gloss
		}
		c.pix[i] = mixRGB(c.pix[i], colour, cover)
	})
}

// around calls f for every pixel (index, centre) in the square around the
// object, widened by margin pixels.
func (s *scene) around(o *object, margin float64, f func(i int, x, y float64)) {
	r := o.radius + margin
	x0, x1 := max(int(o.cx-r), 0), min(int(o.cx+r)+1, s.width)
	y0, y1 := max(int(o.cy-r), 0), min(int(o.cy+r)+1, s.height)
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			f(y*s.width+x, float64(x)+0.5, float64(y)+0.5)
		}
	}
}

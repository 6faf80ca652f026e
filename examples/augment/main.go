// Command augment reads one image and writes the two views of a BYOL pair as
// PNGs, each with the place in the image that it comes from. It is a module of
// its own: package augment is all that it needs of PixPro.
//
//	go run . photo.jpg view
package main

import (
	"fmt"
	"image/png"
	"os"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: augment IMAGE PREFIX (writes PREFIX1.png and PREFIX2.png)")
		os.Exit(2)
	}
	if err := writePair(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "augment:", err)
		os.Exit(1)
	}
}

// writePair draws a pair of views of 224 x 224 pixels.
func writePair(path, prefix string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var decoder decode.Decoder
	var picture augment.Image
	if err := decoder.Decode(data, &picture); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	recipe, err := augment.LookupRecipe("byol")
	if err != nil {
		return err
	}
	var scratch augment.Scratch
	view := augment.NewPlanes(224, 224)
	for v := range recipe.Views {
		rng := augment.NewRand(1, 0, 0, v) // seed, epoch, index in the dataset, view
		params := recipe.Sample(&rng, v, picture.Width, picture.Height)
		params.Apply(view, picture, &scratch)
		name := fmt.Sprintf("%s%d.png", prefix, v+1)
		if err := writePNG(name, view); err != nil {
			return err
		}
		fmt.Printf("%s: x0, y0, x1, y1 = %.3f\n", name, params.Coord(picture.Width, picture.Height))
	}
	return nil
}

func writePNG(name string, p augment.Planes) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := png.Encode(f, p.RGBA()); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

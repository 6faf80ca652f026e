package augment_test

import (
	"encoding/json"
	"fmt"

	"github.com/seed-436d2970/pixpro/augment"
)

// stripes is an image whose left half is red and whose right half is blue.
func stripes(width, height int) augment.Image {
	m := augment.Image{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
	for i := range width * height {
		if i%width < width/2 {
			m.Pix[3*i] = 255
		} else {
			m.Pix[3*i+2] = 255
		}
	}
	return m
}

// A pair of views of one image, as the pipeline makes them.
func Example() {
	image := stripes(64, 48)
	recipe, err := augment.LookupRecipe("none")
	if err != nil {
		fmt.Println(err)
		return
	}
	var scratch augment.Scratch
	view := augment.NewPlanes(32, 32)
	for v := range recipe.Views {
		rng := augment.NewRand(1, 0, 42, v) // seed, epoch, index in the dataset, view
		params := recipe.Sample(&rng, v, image.Width, image.Height)
		params.Apply(view, image, &scratch)
		fmt.Printf("%+v, flip %v, %.3f\n", params.Crop, params.Flip, params.Coord(image.Width, image.Height))
	}
	// Output:
	// {Top:9 Left:25 Height:36 Width:34}, flip false, [0.397 0.191 0.921 0.936]
	// {Top:0 Left:2 Height:41 Width:47}, flip false, [0.032 0.000 0.762 0.851]
}

// Parameters written by hand make a view as well as drawn ones.
func ExampleViewParams_Apply() {
	image := stripes(8, 4)
	params := augment.ViewParams{
		Crop:    augment.Rect{Width: 8, Height: 4},
		Flip:    true,
		Jitter:  [4]augment.Jitter{{Op: augment.OpBrightness, Factor: 0.5}},
		Jitters: 1,
	}
	if err := params.Validate(image.Width, image.Height); err != nil {
		fmt.Println(err)
		return
	}
	view := augment.NewPlanes(4, 2)
	var scratch augment.Scratch
	params.Apply(view, image, &scratch)
	fmt.Println("red:  ", view.Pix[:4])
	fmt.Println("blue: ", view.Pix[16:20])
	// Output:
	// red:   [0 16 111 127]
	// blue:  [127 111 16 0]
}

func ExampleViewParams_Coord() {
	params := augment.ViewParams{Crop: augment.Rect{Left: 25, Top: 10, Width: 51, Height: 31}, Flip: true}
	coord := params.Coord(101, 51)
	fmt.Println(coord)
	x, y := augment.Cell(coord, 0, 0, 7, 7) // the upper left cell of a 7 x 7 map
	fmt.Printf("%.3f %.3f\n", x, y)
	// Output:
	// [0.75 0.2 0.25 0.8]
	// 0.714 0.243
}

// A recipe is data: change it, store it, read it back.
func ExampleRecipe() {
	recipe, _ := augment.LookupRecipe("byol")
	recipe.Name = "grey"
	recipe.CropScale.Min = 0.2
	recipe.Views[0].Grayscale = 1
	recipe.Views[1].Hue = 0.7
	fmt.Println(recipe.Validate())
	recipe.Views[1].Hue = 0.5
	data, _ := json.Marshal(recipe.Views[1])
	fmt.Println(recipe.Validate())
	fmt.Println(string(data))
	// Output:
	// augment: recipe "grey": view 2: hue is 0.7, must be from 0 to 0.5
	// <nil>
	// {"flip":0.5,"jitter":0.8,"brightness":0.4,"contrast":0.4,"saturation":0.2,"hue":0.5,"grayscale":0.2,"blur":0.1,"blur_sigma":{"min":0.1,"max":2},"solarize":0.2}
}

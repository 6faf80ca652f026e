package decode_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
)

// One decoder and one image serve for many files.
func ExampleDecoder() {
	picture := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	picture.Set(0, 0, color.NRGBA{R: 255, A: 255})
	picture.Set(1, 0, color.NRGBA{G: 200, B: 100, A: 3}) // alpha is dropped, not blended
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		fmt.Println(err)
		return
	}

	header, err := decode.ReadHeader(file.Bytes())
	fmt.Println(header, err)
	var decoder decode.Decoder
	var pixels augment.Image
	fmt.Println(decoder.Decode(file.Bytes(), &pixels), pixels)
	err = decoder.Decode(file.Bytes()[:60], &pixels)
	fmt.Println(errors.Is(err, decode.ErrFormat), err)
	// Output:
	// {png 2 1} <nil>
	// <nil> {2 1 [255 0 0 0 200 100]}
	// true decode: cannot decode image: png of 2 x 1 pixels: png: invalid format: unexpected EOF
}

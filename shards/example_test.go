package shards_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/shards"
)

func Example() {
	dir, err := os.MkdirTemp("", "shards")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "photos"), filepath.Join(dir, "shards")
	var photo bytes.Buffer
	if err := png.Encode(&photo, image.NewGray(image.Rect(0, 0, 40, 30))); err != nil {
		fmt.Println(err)
		return
	}
	for _, class := range []string{"cat", "dog"} {
		os.MkdirAll(filepath.Join(in, class), 0o777)
		os.WriteFile(filepath.Join(in, class, "1.png"), photo.Bytes(), 0o666)
	}

	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: in, Out: out}); err != nil {
		fmt.Println(err)
		return
	}
	dataset, err := shards.Open(out)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dataset.Close()
	classes := dataset.Classes()
	for i := range dataset.Len() {
		s, err := dataset.Sample(i)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.Key, classes[s.Label], s.Format, s.Width, s.Height, bytes.Equal(s.Image, photo.Bytes()))
	}
	// Output:
	// cat/1.png cat png 40 30 true
	// dog/1.png dog png 40 30 true
}

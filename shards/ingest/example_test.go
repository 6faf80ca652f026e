package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/shards/ingest"
)

// swatches is an input of plain colours: its path is a list of them.
type swatches struct{ grey []uint8 }

func (s swatches) List(context.Context) (*ingest.Contents, error) {
	c := &ingest.Contents{}
	for i, g := range s.grey {
		class := "dark"
		if g > 127 {
			class = "light"
		}
		c.Add(ingest.File{Key: fmt.Sprintf("%s/%d.png", class, i), At: int64(i)}, class)
	}
	return c, nil
}

func (s swatches) Open(f *ingest.File) (io.ReadCloser, int64, error) {
	m := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range m.Pix {
		m.Pix[i] = color.Gray{Y: s.grey[f.At]}.Y
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	return io.NopCloser(&b), int64(b.Len()), err
}

func (swatches) Unchanged() error { return nil }
func (swatches) Close() error     { return nil }

func init() {
	ingest.Register("swatches", ingest.Kind{
		Help:   "grey levels, one a byte of the path",
		Unseen: true, // a path that is no file
		Open: func(_ context.Context, in *ingest.Input) (ingest.Source, error) {
			return swatches{[]byte(in.Path)}, nil
		},
	})
}

// Shards are made of a kind of inputs of one's own.
func ExampleRegister() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "shards")
	_, report, err := shards.Write(context.Background(), shards.WriteConfig{In: "\x10\xf0\x20", Format: "swatches", Out: out})
	if err != nil {
		log.Fatal(err)
	}
	dataset, err := shards.Open(out)
	if err != nil {
		log.Fatal(err)
	}
	defer dataset.Close()
	fmt.Println(report.Rows, "images of the classes", dataset.Classes())
	for i := range dataset.Len() {
		s, err := dataset.Sample(i)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(s.Key, s.Label, s.Width, "x", s.Height)
	}
	// Output:
	// 3 images of the classes [dark light]
	// dark/0.png 0 8 x 8
	// dark/2.png 0 8 x 8
	// light/1.png 1 8 x 8
}

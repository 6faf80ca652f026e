// Command train pre-trains an encoder from Go, with an input kind and a loss of
// its own (loss.go): it makes shards of generated pictures, trains three steps,
// and exports the encoder.
//
//	go run . DIR
package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/shards/ingest"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/method"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: train DIR")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	data := filepath.Join(dir, "shards")
	if _, _, err := shards.Write(ctx, shards.WriteConfig{In: "12", Format: "noise", Out: data}); err != nil {
		return err
	}

	o := train.DefaultOptions()
	o.Shards, o.Output, o.Method = data, filepath.Join(dir, "run"), "pull"
	method.Options[*pull](&o).Apart = 0.7
	o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", "small", 0.125, 32, 16
	o.Size, o.BatchSize, o.Epochs, o.WarmupEpochs = 32, 4, 1, 0
	if _, err := train.Run(ctx, o, func(e train.Event) { fmt.Println(e) }); err != nil {
		return err
	}
	n, err := train.Export(ctx, train.ExportOptions{Checkpoint: o.Output, Out: filepath.Join(dir, "backbone.safetensors")}, nil)
	fmt.Println(n, "tensors exported")
	return err
}

// noise is an input kind of its own: as many pictures of grey blocks as the path
// says.
type noise struct{ pictures int }

func init() {
	ingest.Register("noise", ingest.Kind{
		Help:   "as many generated pictures as the path says",
		Unseen: true, // the path is no file
		Open: func(_ context.Context, in *ingest.Input) (ingest.Source, error) {
			n, err := strconv.Atoi(in.Path)
			return noise{n}, err
		},
	})
}

func (n noise) List(context.Context) (*ingest.Contents, error) {
	c := &ingest.Contents{}
	for i := range n.pictures {
		c.Add(ingest.File{Key: fmt.Sprintf("%04d.png", i), At: int64(i)}, "")
	}
	return c, nil
}

func (noise) Open(f *ingest.File) (io.ReadCloser, int64, error) {
	rng := rand.New(rand.NewPCG(uint64(f.At), 0))
	m := image.NewGray(image.Rect(0, 0, 64, 64))
	var blocks [64]uint8
	for i := range blocks {
		blocks[i] = uint8(rng.Uint32())
	}
	for i := range m.Pix {
		m.Pix[i] = blocks[i/512*8+i%64/8]
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	return io.NopCloser(&b), int64(b.Len()), err
}

func (noise) Unchanged() error { return nil }
func (noise) Close() error     { return nil }

package train_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/method"
)

// A small encoder is trained for two epochs by PixContrast, and its checkpoint
// found again.
func ExampleRun() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data := exampleShards(dir)

	o := train.DefaultOptions()
	o.Shards, o.Output = data, filepath.Join(dir, "run")
	o.Arch, o.Stem, o.Width, o.HeadHidden, o.HeadDim = "resnet18", "small", 0.125, 32, 16
	o.Size, o.BatchSize, o.Epochs, o.WarmupEpochs = 32, 4, 2, 1
	o.Method = "pixcontrast"
	method.Options[*method.PixContrast](&o).Temperature = 0.2

	last, err := train.Run(context.Background(), o, func(e train.Event) {
		if e, ok := e.(train.Saved); ok {
			fmt.Println("saved step", e.Step)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	c, err := checkpoint.Open(o.Output)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(last.Step, "steps, the checkpoint is of step", c.State.Step, "by", c.Options.Method)
	// Output:
	// saved step 2
	// saved step 4
	// 4 steps, the checkpoint is of step 4 by pixcontrast
}

// exampleShards makes a dataset of 8 pictures.
func exampleShards(dir string) string {
	images, out := filepath.Join(dir, "images"), filepath.Join(dir, "shards")
	if err := synth.Generate(context.Background(), images, synth.Options{Images: 8, MinSide: 48, MaxSide: 64}); err != nil {
		log.Fatal(err)
	}
	if _, _, err := shards.Write(context.Background(), shards.WriteConfig{In: images, Out: out}); err != nil {
		log.Fatal(err)
	}
	return out
}

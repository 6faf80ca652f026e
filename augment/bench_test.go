package augment

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkOperation measures single operations on a view of 224 x 224 pixels.
func BenchmarkOperation(b *testing.B) {
	var scratch Scratch
	src := noise(rand.New(rand.NewPCG(1, 2)), 500, 375)
	view := NewPlanes(224, 224)
	ResizedCrop(view, src, Rect{Width: 500, Height: 375}, &scratch)
	pixels := clonePlanes(view)
	type operation struct {
		name  string
		apply func()
	}
	measured := []operation{
		{"ResizedCrop/whole", func() { ResizedCrop(view, src, Rect{Width: 500, Height: 375}, &scratch) }},
		{"ResizedCrop/small", func() { ResizedCrop(view, src, Rect{Left: 99, Top: 77, Width: 150, Height: 130}, &scratch) }},
		{"HFlip", view.HFlip},
		{"Grayscale", view.Grayscale},
		{"GaussianBlur/1", func() { view.GaussianBlur(1, &scratch) }},
		{"GaussianBlur/2", func() { view.GaussianBlur(2, &scratch) }},
	}
	for _, op := range Operations() {
		measured = append(measured, operation{op.String(), func() { op.Typical().Apply(view, &scratch) }})
	}
	for _, op := range measured {
		b.Run(op.name, func(b *testing.B) {
			copy(view.Pix, pixels.Pix) // not what the operation before made
			b.SetBytes(int64(view.Width * view.Height))
			for b.Loop() {
				op.apply()
			}
		})
	}
}

// BenchmarkPair measures pairs of BYOL views of 224 x 224 pixels from a
// decoded image of 500 x 375.
func BenchmarkPair(b *testing.B) {
	src := noise(rand.New(rand.NewPCG(1, 2)), 500, 375)
	view := NewPlanes(224, 224)
	recipe := mustRecipe(b, "byol")
	var scratch Scratch
	index := uint64(0)
	for b.Loop() {
		for v := range recipe.Views {
			rng := NewRand(1, 0, index, v)
			p := recipe.Sample(&rng, v, src.Width, src.Height)
			p.Apply(view, src, &scratch)
		}
		index++
	}
}

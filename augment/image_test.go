package augment

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestRGBA(t *testing.T) {
	picture := Image{Width: 2, Height: 2, Pix: []uint8{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	want := []uint8{1, 2, 3, 255, 4, 5, 6, 255, 7, 8, 9, 255, 10, 11, 12, 255}
	got := picture.RGBA()
	if got.Rect.Dx() != 2 || got.Rect.Dy() != 2 || !got.Opaque() || !bytes.Equal(got.Pix, want) {
		t.Errorf("image of %v with %v, want %v", got.Rect, got.Pix, want)
	}
	// Planes of another shape than square, from an image that is right by now.
	picture = noise(rand.New(rand.NewPCG(1, 2)), 5, 3)
	if got, want := planesOf(picture).RGBA(), picture.RGBA(); got.Rect != want.Rect || !bytes.Equal(got.Pix, want.Pix) {
		t.Error("planes and image differ")
	}
}

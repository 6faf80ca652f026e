package pipeline

import (
	"context"
	"math"
	"testing"
)

// Float32 views are the Uint8 ones as torchvision's ToTensor and Normalize make
// them: division, subtraction and division in float32.
func TestFloat32ViewsAreNormalizedUint8Views(t *testing.T) {
	d := dataset(t, 10, 3) // the bad sample moves later ones up
	cfg := config(t, d)
	cfg.KeepLast = true
	levels := checked(t, context.Background(), cfg)
	cfg.DType = Float32
	floats := checked(t, context.Background(), cfg)
	pairs := 0
	for levels.Next() && floats.Next() {
		a, err := NewBatch(levels.Record())
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewBatch(floats.Record())
		if err != nil {
			t.Fatal(err)
		}
		if b.Size() != 8 || b.Views(0) != nil || a.Floats(0) != nil {
			t.Fatalf("views of %d pixels, as uint8 %t, and floats of uint8 %t", b.Size(), b.Views(0) != nil, a.Floats(0) != nil)
		}
		pairs += b.Len()
		for v := range 2 {
			for i, level := range a.Views(v) {
				channel := i / (8 * 8) % 3
				want := float32(level) / 255
				want -= float32(ImageNet().Mean[channel])
				want /= float32(ImageNet().Std[channel])
				if got := b.Floats(v)[i]; math.Float32bits(got) != math.Float32bits(want) {
					t.Fatalf("view %d, number %d: level %d became %v, want %v", v+1, i, level, got, want)
				}
			}
		}
	}
	if levels.Err() != nil || floats.Err() != nil || pairs != 9 {
		t.Errorf("%d pairs, errors %v and %v", pairs, levels.Err(), floats.Err())
	}
}

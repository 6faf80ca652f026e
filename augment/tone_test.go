package augment

import (
	"hash/crc32"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/golden"
)

// TestToneIsPillows compares checksums (CRC-32 of the planes) with those of what
// Pillow 9.4 makes of the golden pictures, by ImageOps and ImageEnhance.
func TestToneIsPillows(t *testing.T) {
	t.Parallel()
	var scratch Scratch
	for _, test := range []struct {
		input  string
		op     Op
		factor float64
		want   uint32
	}{
		{"in_photo0.png", OpAutoContrast, 0, 0x62dc8aa5},
		{"in_photo0.png", OpEqualize, 0, 0x8b10eae5},
		{"in_photo0.png", OpPosterize, 7, 0xc4d01061},
		{"in_photo0.png", OpPosterize, 3, 0xea114192},
		{"in_photo0.png", OpSolarize, 178.5, 0xc0c2c6d2},
		{"in_photo0.png", OpSharpness, 0.0, 0x2a93b7fc},
		{"in_photo0.png", OpSharpness, 1.27, 0xeccc3c47},
		{"in_photo0.png", OpSharpness, 0.73, 0x97e598ee},
		{"in_photo0.png", OpSharpness, 5.0, 0x9957867d},
		{"in_noise.png", OpAutoContrast, 0, 0xbd2face4},
		{"in_noise.png", OpEqualize, 0, 0x42a54dd9},
		{"in_noise.png", OpPosterize, 7, 0x91377321},
		{"in_noise.png", OpPosterize, 3, 0x9cde712c},
		{"in_noise.png", OpSolarize, 178.5, 0x7ae6d0c1},
		{"in_noise.png", OpSharpness, 0.0, 0x9fb8c5f2},
		{"in_noise.png", OpSharpness, 1.27, 0x4a028824},
		{"in_noise.png", OpSharpness, 0.73, 0xc4ab52ce},
		{"in_noise.png", OpSharpness, 5.0, 0x571bf7cd},
		{"in_gradient.png", OpAutoContrast, 0, 0xe66de42d},
		{"in_gradient.png", OpEqualize, 0, 0x7147affc},
		{"in_gradient.png", OpPosterize, 7, 0xbe36ec85},
		{"in_gradient.png", OpPosterize, 3, 0x23adbfe4},
		{"in_gradient.png", OpSolarize, 178.5, 0x1f8fef56},
		{"in_gradient.png", OpSharpness, 0.0, 0xe66de42d},
		{"in_gradient.png", OpSharpness, 1.27, 0xe66de42d},
		{"in_gradient.png", OpSharpness, 0.73, 0xe66de42d},
		{"in_gradient.png", OpSharpness, 5.0, 0xe66de42d},
		{"in_1x1.png", OpAutoContrast, 0, 0xf45c605a},
		{"in_1x1.png", OpEqualize, 0, 0xf45c605a},
		{"in_1x1.png", OpPosterize, 7, 0x82993afb},
		{"in_1x1.png", OpPosterize, 3, 0x42674fcc},
		{"in_1x1.png", OpSolarize, 178.5, 0x67789d28},
		{"in_1x1.png", OpSharpness, 0.0, 0xf45c605a},
		{"in_1x1.png", OpSharpness, 1.27, 0xf45c605a},
		{"in_1x1.png", OpSharpness, 0.73, 0xf45c605a},
		{"in_1x1.png", OpSharpness, 5.0, 0xf45c605a},
		{"in_3x5.png", OpAutoContrast, 0, 0xbdfa27a9},
		{"in_3x5.png", OpEqualize, 0, 0x0b8212db},
		{"in_3x5.png", OpPosterize, 7, 0x4f7382bf},
		{"in_3x5.png", OpPosterize, 3, 0x6893abbb},
		{"in_3x5.png", OpSolarize, 178.5, 0xe1c464d1},
		{"in_3x5.png", OpSharpness, 0.0, 0xcd37b624},
		{"in_3x5.png", OpSharpness, 1.27, 0x2c65f1a1},
		{"in_3x5.png", OpSharpness, 0.73, 0x4d76fd47},
		{"in_3x5.png", OpSharpness, 5.0, 0xdec33466},
		{"in_primaries.png", OpAutoContrast, 0, 0x48e73f23},
		{"in_primaries.png", OpEqualize, 0, 0x48e73f23},
		{"in_primaries.png", OpPosterize, 7, 0x2887379a},
		{"in_primaries.png", OpPosterize, 3, 0x2836ef24},
		{"in_primaries.png", OpSolarize, 178.5, 0x8d5eadc5},
		{"in_primaries.png", OpSharpness, 0.0, 0x7a90214f},
		{"in_primaries.png", OpSharpness, 1.27, 0x55eafb38},
		{"in_primaries.png", OpSharpness, 0.73, 0xf3b33ab1},
		{"in_primaries.png", OpSharpness, 5.0, 0x5e9eddda},
	} {
		p := planesOf(readPNG(t, golden.Path(t, "augment", test.input)))
		Jitter{test.op, test.factor}.Apply(p, &scratch)
		if got := crc32.ChecksumIEEE(p.Pix); got != test.want {
			t.Errorf("%s, %v %v: checksum %#08x, want %#08x", test.input, test.op, test.factor, got, test.want)
		}
	}
}

// TestToneOfDullPictures: what there is to stretch and to equalise.
func TestToneOfDullPictures(t *testing.T) {
	var scratch Scratch
	for _, test := range []struct {
		op   Op
		want uint32
	}{{OpAutoContrast, 733839343}, {OpEqualize, 4117731543}} {
		p := planesOf(readPNG(t, golden.Path(t, "augment", "in_photo0.png")))
		for i, v := range p.Pix {
			p.Pix[i] = 100 + v/6
		}
		Jitter{Op: test.op}.Apply(p, &scratch)
		if got := crc32.ChecksumIEEE(p.Pix); got != test.want {
			t.Errorf("%v: checksum %#08x, want %#08x", test.op, got, test.want)
		}
	}
}

package decode

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"slices"
	"sync"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/golden"
	"github.com/seed-436d2970/pixpro/internal/hostile"
)

// eachJPEGDecoder runs a test with libjpeg-turbo, where there is one, and with
// Go's decoder.
func eachJPEGDecoder(t *testing.T, f func(t *testing.T, d *Decoder)) {
	t.Run("Go", func(t *testing.T) { f(t, &Decoder{portable: true}) })
	if library, _ := turboJPEG(); library != nil {
		t.Run(library.name, func(t *testing.T) { f(t, new(Decoder)) })
	}
}

// photograph is a JPEG file of 320 x 240 pixels or so.
func photograph(tb testing.TB, name string) []byte {
	tb.Helper()
	return readFile(tb, golden.Path(tb, "decode", name))
}

// TestCutJPEG: whatever is missing at the end, even the marker of the end, is an
// error and not made up.
func TestCutJPEG(t *testing.T) {
	for _, name := range []string{"jpeg_420.JPEG", "jpeg_progressive_422.jpg", "jpeg_grey.jpg", "jpeg_cmyk.JPEG"} {
		data := photograph(t, name)
		eachJPEGDecoder(t, func(t *testing.T, d *Decoder) {
			var m augment.Image
			for n := 0; n < len(data); n += 1 + len(data)/97 {
				if err := d.Decode(data[:n], &m); !errors.Is(err, ErrFormat) {
					t.Fatalf("%s: %d of %d bytes: error %v", name, n, len(data), err)
				}
			}
			if err := d.Decode(data[:len(data)-2], &m); !errors.Is(err, ErrFormat) {
				t.Errorf("%s without its end: error %v", name, err)
			}
		})
	}
}

// TestHarmlessWarning: bytes between segments are nothing to fail for, and cost
// no exactness.
func TestHarmlessWarning(t *testing.T) {
	data := photograph(t, "jpeg_420.JPEG")
	spoilt := append(bytes.Clone(data[:len(data)-2]), 1, 2, 3, 0xFF, 0xD9)
	eachJPEGDecoder(t, func(t *testing.T, d *Decoder) {
		var want, got augment.Image
		if err := d.Decode(data, &want); err != nil {
			t.Fatal(err)
		}
		if err := d.Decode(spoilt, &got); err != nil {
			t.Fatal(err)
		}
		checkEqual(t, got, want)
		// The first warning must not hide the second.
		if err := d.Decode(append(bytes.Clone(data[:2]), append([]byte{1, 2, 3}, data[2:len(data)-2000]...)...), &got); !errors.Is(err, ErrFormat) {
			t.Errorf("cut off after a harmless warning: error %v", err)
		}
		tableless := append(bytes.Clone(data[:2]), append([]byte{1, 2, 3}, data[2:]...)...)
		tableless[bytes.Index(tableless, []byte{0xFF, 0xC0})+4+8+3] = 3 // the second component's table
		if err := d.Decode(tableless, &got); !errors.Is(err, ErrFormat) {
			t.Errorf("without a quantization table after a harmless warning: error %v", err)
		}
	})
}

// TestWarningsOfManyThreads decodes an image with a harmless warning for so long
// that its goroutine goes on in another thread. The library keeps a warning's text
// by thread.
func TestWarningsOfManyThreads(t *testing.T) {
	data := hostile.JPEG(2000, 2000, 21)
	scan := bytes.Index(data, []byte{0xFF, 0xDA})
	data = slices.Concat(data[:scan], []byte{1, 2, 3}, data[scan:])
	eachJPEGDecoder(t, func(t *testing.T, _ *Decoder) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var d Decoder
				var m augment.Image
				for range 2 {
					if err := d.Decode(data, &m); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestDecodeScaled: an even image keeps its colour and has the divided size
// where a decoder can scale, the whole size otherwise.
func TestDecodeScaled(t *testing.T) {
	const width, height = 101, 67
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		picture.Set(i%width, i/width, color.RGBA{90, 140, 30, 255})
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, picture, nil); err != nil {
		t.Fatal(err)
	}
	eachJPEGDecoder(t, func(t *testing.T, d *Decoder) {
		for _, divisor := range []int{1, 2, 4, 8} {
			var m augment.Image
			if err := d.DecodeScaled(file.Bytes(), &m, divisor); err != nil {
				t.Fatal(err)
			}
			if d.portable {
				divisor = 1
			}
			if m.Width != ceil(width, divisor) || m.Height != ceil(height, divisor) || len(m.Pix) != 3*m.Width*m.Height {
				t.Fatalf("divided by %d: %d x %d pixels in %d bytes", divisor, m.Width, m.Height, len(m.Pix))
			}
			for i, v := range m.Pix {
				if d := int(v) - []int{90, 140, 30}[i%3]; d < -3 || d > 3 {
					t.Fatalf("divided by %d: sample %d is %d", divisor, i, v)
				}
			}
		}
	})
}

// TestDecodersInParallel: the library's instances are shared by all goroutines.
func TestDecodersInParallel(t *testing.T) {
	names := []string{"jpeg_444.JPEG", "jpeg_420.JPEG", "jpeg_progressive_422.jpg", "jpeg_cmyk.JPEG"}
	done := make(chan error)
	for worker := range 4 {
		want := readPNG(t, golden.Path(t, "decode", names[worker]+".png"))
		data := photograph(t, names[worker])
		exact := JPEG() != "Go image/jpeg"
		go func() {
			var d Decoder
			var m augment.Image
			for range 50 {
				if err := d.Decode(data, &m); err != nil {
					done <- err
					return
				}
				if exact && !bytes.Equal(m.Pix, want.Pix) {
					done <- errors.New("pixels of another image")
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// FuzzDecodeBoth (run it with -fuzzminimizetime 1x: files do not get small) feeds both JPEG decoders and all others with anything: no panic, nothing allocated by
// what a header claims, and pixels only of the size that it says. Where both
// JPEG decoders give pixels, they agree about the size.
func FuzzDecodeBoth(f *testing.F) {
	for _, name := range []string{
		"jpeg_420.JPEG", "jpeg_progressive_422.jpg", "jpeg_cmyk.JPEG", "jpeg_grey.jpg", "thin_1x40.jpg", "tiny_1x1.jpg",
		"palette.png", "rgba.png", "grey16.png", "bmp.bmp", "webp_lossless.webp", "gif.gif", "bad_bomb.png", "bad_truncated_half.jpg",
	} {
		f.Add(readFile(f, golden.Path(f, "decode", name)), uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, scale uint8) {
		for _, portable := range []bool{false, true} {
			d := Decoder{Limits: Limits{MaxPixels: 1 << 20}, portable: portable}
			var m augment.Image
			err := d.DecodeScaled(data, &m, 1<<(scale%4))
			if err != nil {
				if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
					t.Errorf("error of no class: %v", err)
				}
				continue
			}
			h, err := ReadHeader(data)
			if err != nil {
				t.Fatalf("decoded without a header: %v", err)
			}
			whole := m.Width == h.Width && m.Height == h.Height
			scaled := m.Width == ceil(h.Width, 1<<(scale%4)) && m.Height == ceil(h.Height, 1<<(scale%4))
			if !whole && !scaled || len(m.Pix) != 3*m.Width*m.Height {
				t.Errorf("%d x %d pixels in %d bytes, the header says %d x %d", m.Width, m.Height, len(m.Pix), h.Width, h.Height)
			}
		}
	})
}

package decode

import (
	"bytes"
	"errors"
	"testing"

	"github.com/seed-436d2970/pixpro/augment"
)

// FuzzDecode: any bytes give an error of a class or an image of the size that
// the header says, the same whatever was decoded before.
func FuzzDecode(f *testing.F) {
	for _, path := range rareKinds(f) {
		f.Add(readFile(f, path))
	}
	used := Decoder{Limits: Limits{MaxPixels: 1 << 16}}
	var m augment.Image
	f.Fuzz(func(t *testing.T, data []byte) {
		original := bytes.Clone(data)
		err := used.Decode(data, &m)
		if !bytes.Equal(data, original) {
			t.Fatal("the input was written to")
		}
		h, headerErr := ReadHeader(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		if headerErr != nil || m.Width != h.Width || m.Height != h.Height || len(m.Pix) != 3*m.Width*m.Height {
			t.Fatalf("image of %d x %d with %d bytes, header %+v, %v", m.Width, m.Height, len(m.Pix), h, headerErr)
		}
		var again augment.Image
		fresh := Decoder{Limits: Limits{MaxPixels: 1 << 16}}
		if err := fresh.Decode(data, &again); err != nil || !bytes.Equal(again.Pix, m.Pix) {
			t.Fatalf("decoded again it differs: %v", err)
		}
	})
}

// FuzzReadHeader: any bytes give an error or a size of at least one pixel.
func FuzzReadHeader(f *testing.F) {
	for _, path := range rareKinds(f) {
		data := readFile(f, path)
		f.Add(data[:min(len(data), 200)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHeader(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) || h != (Header{}) {
				t.Fatalf("header %+v with error %v", h, err)
			}
			return
		}
		if h.Width < 1 || h.Height < 1 || h.Format == "" {
			t.Fatalf("header %+v", h)
		}
	})
}

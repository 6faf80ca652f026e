package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/gif"
	"io"

	"github.com/seed-436d2970/pixpro/augment"
)

// gifSize reads the size of the screen that frames are drawn on.
func gifSize(data []byte) (width, height int, err error) {
	if len(data) < 13 {
		return 0, 0, io.ErrUnexpectedEOF
	}
	return int(binary.LittleEndian.Uint16(data[6:])), int(binary.LittleEndian.Uint16(data[8:])), nil
}

// decodeGIF draws the first frame on a screen of one colour: the transparent
// one if there is one, the first of the palette otherwise.
func decodeGIF(data []byte, dst *augment.Image) error {
	m, err := guard(gif.Decode, bytes.NewReader(data))
	if err != nil {
		return err
	}
	frame, ok := m.(*image.Paletted)
	if !ok {
		return errors.New("frame without a palette")
	}
	// image/gif forgets the colour of the transparent index.
	colours, background, err := gifColours(data)
	if err != nil {
		return err
	}
	width, height, err := gifSize(data)
	if err != nil {
		return err
	}
	resize(dst, width, height)
	if frame.Rect != image.Rect(0, 0, width, height) {
		for i := 0; i < len(dst.Pix); i += 3 {
			copy(dst.Pix[i:], colours[background][:])
		}
	}
	drawIndexes(dst, frame, &colours)
	return nil
}

// gifColours reads the blocks up to the first frame and returns its palette and
// the index that the rest of the screen has.
func gifColours(data []byte) (colours [256][3]uint8, background uint8, err error) {
	const (
		extension      = 0x21
		graphicControl = 0xF9
		descriptor     = 0x2C
		transparency   = 1
	)
	r := bytes.NewReader(data)
	var head [13]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return colours, 0, err
	}
	if err := readColourTable(r, head[10], &colours); err != nil {
		return colours, 0, err
	}
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return colours, 0, err
		}
		switch kind {
		case descriptor:
			var d [9]byte
			if _, err := io.ReadFull(r, d[:]); err != nil {
				return colours, 0, err
			}
			return colours, background, readColourTable(r, d[8], &colours)
		case extension:
			label, err := r.ReadByte()
			if err != nil {
				return colours, 0, err
			}
			for {
				block, err := readSubBlock(r)
				if err != nil {
					return colours, 0, err
				}
				if len(block) == 0 {
					break
				}
				if label == graphicControl && len(block) == 4 && block[0]&transparency != 0 {
					background = block[3]
				}
			}
		default:
			return colours, 0, errors.New("unknown block")
		}
	}
}

// readColourTable reads the colour table that flags announce, if any. Indexes
// beyond it are grey, as in Pillow.
func readColourTable(r io.Reader, flags uint8, colours *[256][3]uint8) error {
	const present, sizeBits = 0x80, 7
	if flags&present == 0 {
		return nil
	}
	for i := range colours {
		colours[i] = [3]uint8{uint8(i), uint8(i), uint8(i)}
	}
	for i := range 2 << (flags & sizeBits) {
		if _, err := io.ReadFull(r, colours[i][:]); err != nil {
			return err
		}
	}
	return nil
}

// readSubBlock reads a block of up to 255 bytes behind its length.
func readSubBlock(r *bytes.Reader) ([]byte, error) {
	n, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	block := make([]byte, n)
	_, err = io.ReadFull(r, block)
	return block, err
}

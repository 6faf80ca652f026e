// Package hostile makes images that take far more memory or time than their bytes
// suggest. Tests decode them.
package hostile

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
)

// JPEG is a grey, even image. More than one scan make it progressive; those behind
// the first, of the mean values, each take a few bytes for all blocks.
func JPEG(width, height, scans int) []byte {
	if scans > 1 {
		return jpeg(0xC2, width, height, scans)
	}
	return jpeg(0xC0, width, height, scans)
}

// jpeg is an image of that frame: SOF0, or SOF2 and SOF10, which are progressive.
func jpeg(frame byte, width, height, scans int) []byte {
	b := []byte{0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0}
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	progressive, arithmetic := frame != 0xC0, frame == 0xCA
	last, symbol := byte(63), byte(0) // the end of a block
	if progressive {
		last, symbol = 0, 0xE0 // the end of 2^14 blocks
	}
	b = append(b, 0xFF, frame, 0, 11, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), 1, 1, 0x11, 0)
	for class, symbol := range []byte{0, symbol} { // tables of one code, which is the bit 0
		b = append(b, 0xFF, 0xC4, 0, 20, byte(class<<4), 1)
		b = append(append(b, make([]byte, 15)...), symbol)
	}
	blocks := (width + 7) / 8 * ((height + 7) / 8)
	if arithmetic { // zeros behind a scan's end go on without one
		b = comment(b, blocks/8)
		blocks = 0
	}
	b = append(b, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, last, 0)
	if !progressive {
		return append(append(b, make([]byte, (2*blocks+7)/8)...), 0xFF, 0xD9)
	}
	b = append(b, make([]byte, (blocks+7)/8)...)
	for range scans - 1 {
		b = append(b, 0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 63, 0)
		b = append(b, make([]byte, 2*(blocks>>14+1)+1)...) // 15 bits for a run: 0, and 14 of its length
	}
	return append(b, 0xFF, 0xD9)
}

// comment appends n bytes that say nothing: a JPEG with less than a bit for a block
// is taken for one that was cut short.
func comment(b []byte, n int) []byte {
	for ; n > 0; n -= 1 << 15 {
		b = append(b, 0xFF, 0xFE, 0x80, 0x02)
		b = append(b, make([]byte, 1<<15)...)
	}
	return b
}

// ArithmeticJPEG is a progressive JPEG with arithmetic codes in place of Huffman's,
// by which a value takes less than a bit. libjpeg-turbo alone decodes it.
func ArithmeticJPEG(width, height, scans int) []byte { return jpeg(0xCA, width, height, scans) }

// PNG is a black image, compressed as far as zlib goes.
func PNG(width, height int, depth, colourType byte) []byte {
	channels := map[byte]int{0: 1, 2: 3, 6: 4}[colourType]
	var pixels bytes.Buffer
	z, _ := zlib.NewWriterLevel(&pixels, zlib.BestSpeed)
	row := make([]byte, 1+width*channels*int(depth)/8)
	for range height {
		_, _ = z.Write(row) // into memory
	}
	_ = z.Close()
	return pngFile(width, height, depth, colourType, pixels.Bytes())
}

// EmptyBlocksPNG is one grey pixel behind so many blocks of compressed data that
// have a table of codes and nothing else.
func EmptyBlocksPNG(blocks int) []byte {
	data, bits := []byte{0x78, 0x01}, 0
	put := func(value uint32, n int) { // the lowest bit first
		for i := range n {
			if bits%8 == 0 {
				data = append(data, 0)
			}
			data[len(data)-1] |= byte(value>>i&1) << (bits % 8)
			bits++
		}
	}
	for range blocks {
		put(0b100, 3) // not the last block; with a table
		put(0, 5)     // 257 codes of bytes and the end
		put(0, 5)     // one of distances
		put(14, 4)    // 18 lengths of the codes that these are written with,
		for _, length := range []uint32{0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2} {
			put(length, 3) // of 18 (zeros), 0 and 1
		}
		put(0, 1)
		put(127, 7) // 138 zeros
		put(0, 1)
		put(107, 7)  // 118 zeros
		put(0b11, 2) // the end has a code of one bit,
		put(0b01, 2) // and distances have none
		put(0, 1)    // the end
	}
	put(0b001, 3) // the last block, as it is
	data = append(data, 2, 0, 0xFD, 0xFF, 0, 0)
	data = binary.BigEndian.AppendUint32(data, 2<<16|1) // Adler-32 of two zeros
	return pngFile(1, 1, 8, 0, data)
}

func pngFile(width, height int, depth, colourType byte, data []byte) []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(name string, body []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		at := len(b)
		b = append(append(b, name...), body...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(width)), uint32(height))
	chunk("IHDR", append(head, depth, colourType, 0, 0, 0))
	chunk("IDAT", data)
	chunk("IEND", nil)
	return b
}

// WebP is a lossless image of one colour, whose pixels take no bits.
func WebP(width, height int) []byte {
	head := uint64(0x2F) | uint64(width-1)<<8 | uint64(height-1)<<22
	body := binary.LittleEndian.AppendUint64(nil, head)[:5] // and no alpha, version 0
	// No transform, cache of colours or further trees, which is 0 three times; and
	// five trees of the symbol 0, each 1 0 0 0. The lowest bit comes first.
	body = append(body, 0b10001000, 0b10001000, 0b00001000, 0, 0, 0, 0)
	b := []byte("RIFF\x00\x00\x00\x00WEBPVP8L")
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// BMP is a grey image with a palette.
func BMP(width, height int) []byte {
	const header, colours = 14 + 40, 256
	b := make([]byte, header+4*colours, header+4*colours+width*height)
	copy(b, "BM")
	le := binary.LittleEndian
	le.PutUint32(b[2:], uint32(cap(b)))
	le.PutUint32(b[10:], uint32(len(b)))
	le.PutUint32(b[14:], 40)
	le.PutUint32(b[18:], uint32(width))
	le.PutUint32(b[22:], uint32(height))
	le.PutUint16(b[26:], 1)
	le.PutUint16(b[28:], 8)
	le.PutUint32(b[46:], colours)
	return b[:cap(b)]
}

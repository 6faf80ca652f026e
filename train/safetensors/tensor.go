// Package safetensors reads and writes tensors in the safetensors format
// (https://huggingface.co/docs/safetensors).
//
// A file is an 8-byte little-endian header length, a JSON header that gives
// each tensor's dtype, shape and byte range, and the tensors' bytes. The
// reader believes nothing that the header says: the ranges must cover the data
// exactly, without a gap or an overlap, each must be as long as its shape and
// dtype ask for, and all this is checked against the size of the file before
// memory for the data is taken. The writer keeps the order that it is given
// and sorts the metadata, so that equal tensors make equal bytes.
package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// DType is the type of a tensor's elements, as the header spells it.
type DType string

// The element types that are read and written, all little-endian.
const (
	F16  DType = "F16"  // IEEE 754 half precision
	BF16 DType = "BF16" // the upper half of an F32
	F32  DType = "F32"
	F64  DType = "F64"
	Bool DType = "BOOL"
	U8   DType = "U8"
	I8   DType = "I8"
	I16  DType = "I16"
	I32  DType = "I32"
	I64  DType = "I64"
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int64 {
	switch d {
	case U8, I8, Bool:
		return 1
	case F16, BF16, I16:
		return 2
	case F32, I32:
		return 4
	case F64, I64:
		return 8
	}
	return 0
}

// Tensor is a named array in row-major order. A scalar has an empty shape.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte // elements, little-endian
}

// Element lists the Go types that tensors are made from.
type Element interface {
	float32 | float64 | uint8 | int64
}

// New makes a tensor from a copy of values. That the shape fits is checked by
// Write.
func New[T Element](name string, shape []int, values []T) Tensor {
	t := Tensor{Name: name, Shape: shape}
	switch any(values).(type) {
	case []float32:
		t.DType = F32
	case []float64:
		t.DType = F64
	case []uint8:
		t.DType = U8
	case []int64:
		t.DType = I64
	}
	t.Data = make([]byte, binary.Size(values))
	if _, err := binary.Encode(t.Data, binary.LittleEndian, values); err != nil {
		panic(err) // impossible: Data has the size that values need
	}
	return t
}

// Float32s returns a copy of the elements of a tensor of floating-point
// numbers; those of F64 are rounded.
func (t Tensor) Float32s() ([]float32, error) {
	switch t.DType {
	case F32:
		return decode[float32](t)
	case F64:
		return convert[float32, float64](t)
	case F16:
		return halves(t, fromHalf)
	case BF16:
		return halves(t, func(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) })
	}
	return nil, fmt.Errorf("safetensors: tensor %q is %s, not of floating-point numbers", t.Name, t.DType)
}

func halves(t Tensor, widen func(uint16) float32) ([]float32, error) {
	if len(t.Data)%2 != 0 {
		return nil, fmt.Errorf("safetensors: tensor %q has %d bytes, not a multiple of 2", t.Name, len(t.Data))
	}
	values := make([]float32, len(t.Data)/2)
	for i := range values {
		values[i] = widen(binary.LittleEndian.Uint16(t.Data[2*i:]))
	}
	return values, nil
}

// fromHalf widens a half-precision number: a sign, 5 bits of exponent (bias
// 15), 10 of fraction.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // fraction x 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent-15+127)<<23 | fraction<<13)
}

// Float64s returns a copy of an F32 or F64 tensor's elements.
func (t Tensor) Float64s() ([]float64, error) {
	switch t.DType {
	case F32:
		return convert[float64, float32](t)
	case F64:
		return decode[float64](t)
	}
	return nil, fmt.Errorf("safetensors: tensor %q is %s, not F32 or F64", t.Name, t.DType)
}

func decode[T float32 | float64](t Tensor) ([]T, error) {
	size := int(t.DType.Size())
	if len(t.Data)%size != 0 {
		return nil, fmt.Errorf("safetensors: tensor %q has %d bytes, not a multiple of %d", t.Name, len(t.Data), size)
	}
	values := make([]T, len(t.Data)/size)
	if _, err := binary.Decode(t.Data, binary.LittleEndian, values); err != nil {
		return nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
	}
	return values, nil
}

func convert[To, From float32 | float64](t Tensor) ([]To, error) {
	from, err := decode[From](t)
	if err != nil {
		return nil, err
	}
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = To(v)
	}
	return to, nil
}

var errTooManyBytes = errors.New("its shape asks for more bytes than can be counted")

// byteSize is the number of bytes that a dtype and a shape ask for.
func byteSize(dtype DType, shape []int) (int64, error) {
	n := dtype.Size()
	if n == 0 {
		return 0, fmt.Errorf("unknown dtype %q ", dtype)
	}
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Errorf("negative dimension %d", dim)
		}
		if dim > 0 && n > math.MaxInt64/int64(dim) {
			return 0, errTooManyBytes
		}
		n *= int64(dim)
	}
	return n, nil
}

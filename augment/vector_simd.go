//go:build goexperiment.simd && amd64

package augment

import "simd/archsimd"

// Vectors of one value, which loops load from memory. Where a loop makes such a
// vector, or shifts by a number, the compiler moves the value from a general
// register by an instruction of the old SSE encoding. On Intel's processors since
// Ice Lake each of these costs a hundred cycles while the upper halves of vectors
// are in use: kernels with them in their loops were slower than the portable code.
// So loops shift by vectors, and 16-bit integers by multiplications.
var (
	words256  = words(256)
	wordsLow8 = words(0xFF)

	longs1          = longs(1)
	longs2          = longs(2)
	longs8          = longs(8)
	longs16         = longs(16)
	longs24         = longs(24)
	longsLowBits    = longs(lowBits)
	longsWeightBits = longs(weightBits)

	// What is added before a shift or a division, so that it rounds.
	longsHalf16  = longs(1 << 15)
	longsHalf22  = longs(1 << (weightBits - 1))
	longsHalf24  = longs(1 << 23)
	longsHalf255 = longs(255/2 + 1) // and 1 for by255

	lumaRedGreen  = longs(19595 | 19235<<16)
	lumaGreenBlue = longs(19235 | 7471<<16)

	floats2   = floats(2)
	floats4   = floats(4)
	floats255 = floats(255)
)

func words(v uint16) (a [16]uint16) {
	for i := range a {
		a[i] = v
	}
	return a
}

func longs(v uint32) (a [8]uint32) {
	for i := range a {
		a[i] = v
	}
	return a
}

func floats(v float32) (a [8]float32) {
	for i := range a {
		a[i] = v
	}
	return a
}

// left and right shift 32-bit integers by the vector's number of bits.
func left(v archsimd.Int32x8, bits *[8]uint32) archsimd.Int32x8 {
	return v.AsUint32x8().ShiftLeft(archsimd.LoadUint32x8(bits)).AsInt32x8()
}

// right shifts in zeros.
func right(v archsimd.Uint32x8, bits *[8]uint32) archsimd.Uint32x8 {
	return v.ShiftRight(archsimd.LoadUint32x8(bits))
}

// leftByte and rightByte shift 16-bit integers by eight bits.
func leftByte(v archsimd.Uint16x16) archsimd.Uint16x16 {
	return v.Mul(archsimd.LoadUint16x16(&words256))
}

func rightByte(v archsimd.Uint16x16) archsimd.Uint16x16 {
	return v.MulHigh(archsimd.LoadUint16x16(&words256)) // (256*v) >> 16
}

//go:build goexperiment.simd && amd64

package augment

import "simd/archsimd"

// Where a hue's largest, middle and smallest channels go: for each sixth of the
// circle, and the end of it, how many bits R, G and B lie from the lowest in
// value + middle<<8 + smallest<<16.
var (
	hueShiftR = [8]uint32{0, 8, 16, 16, 8, 0, 0, 0}
	hueShiftG = [8]uint32{8, 0, 0, 8, 16, 16, 8, 0}
	hueShiftB = [8]uint32{16, 16, 8, 0, 0, 8, 16, 0}
)

// hueVector turns the hue of the first pixels. It computes in single precision,
// in an order of roundings that gives the portable tables' values for every
// colour.
func hueVector(r, g, b []uint8, shift uint8) int {
	n := vectorLength(r)
	if n == 0 {
		return 0
	}
	tableR, tableG, tableB := archsimd.LoadUint32x8(&hueShiftR), archsimd.LoadUint32x8(&hueShiftG), archsimd.LoadUint32x8(&hueShiftB)
	turn := archsimd.BroadcastInt32x8(int32(shift))
	low := archsimd.BroadcastInt32x8(0xFF)
	one := archsimd.BroadcastInt32x8(1)
	oneFloat := archsimd.BroadcastFloat32x8(1)
	six := archsimd.BroadcastFloat32x8(6)
	most := archsimd.BroadcastFloat32x8(255)
	square := archsimd.BroadcastFloat32x8(255 * 255)
	halfSquare := archsimd.BroadcastFloat32x8(255 * 255 / 2)
	perSquare := archsimd.BroadcastFloat32x8(1.0 / (255*255 + 0.01)) // never too large
	highest := archsimd.LoadUint32x8(&longs24)
	var zero archsimd.Int32x8
	var zeroFloat archsimd.Float32x8
	for i := 0; i < n; i += 32 {
		pr, pg, pb := (*[32]uint8)(r[i:]), (*[32]uint8)(g[i:]), (*[32]uint8)(b[i:])
		vr, vg, vb := archsimd.LoadUint8x32(pr).AsUint32x8(), archsimd.LoadUint8x32(pg).AsUint32x8(), archsimd.LoadUint8x32(pb).AsUint32x8()
		var outR, outG, outB archsimd.Uint32x8
		for range 4 { // every fourth pixel
			red, green, blue := vr.AsInt32x8().And(low), vg.AsInt32x8().And(low), vb.AsInt32x8().And(low)
			vr, vg, vb = right(vr, &longs8), right(vg, &longs8), right(vb, &longs8)

			// To HSV. Hue in sixths is 2*channel + 1 - middle where the difference of
			// the channels behind the largest is not negative, else 2*channel - 1 +
			// middle, middle being how far the middle channel is from the largest in
			// units of the chroma.
			largest := red.Max(green).Max(blue)
			chroma := largest.Sub(red.Min(green).Min(blue))
			isRed, isGreen := red.Equal(largest), green.Equal(largest)
			difference := green.Sub(blue).Merge(blue.Sub(red).Merge(red.Sub(green), isGreen), isRed)
			channel := zeroFloat.Merge(archsimd.LoadFloat32x8(&floats2).Merge(archsimd.LoadFloat32x8(&floats4), isGreen), isRed)
			size := difference.Abs()
			middle := chroma.Sub(size).ConvertToFloat32().Div(chroma.Max(one).ConvertToFloat32())
			negative := zero.Greater(difference)
			sixths := channel.Sub(oneFloat).Add(middle).Merge(channel.Add(oneFloat).Sub(middle), negative)
			turns := sixths.Div(six)
			turns = oneFloat.Add(turns).Merge(turns, zeroFloat.Greater(turns))
			// The whole part of 255*turns, of the exact product.
			whole := turns.Mul(most).Floor()
			short := turns.MulAdd(most, zeroFloat.Sub(whole))
			whole = whole.Sub(oneFloat).Merge(whole, zeroFloat.Greater(short))
			h := whole.ConvertToInt32().Add(turn).And(low)
			saturation := chroma.ConvertToFloat32().Mul(most).Div(largest.Max(one).ConvertToFloat32()).Floor()

			// And back.
			value := largest.ConvertToFloat32()
			sixfold := left(h, &longs2).Add(left(h, &longs1))
			next := sixfold.Add(one)
			sector := by255(next)
			odd := sector.Or(one)
			way := sixfold.Sub(left(odd, &longs8).Sub(odd)).Abs().ConvertToFloat32()
			next = value.Mul(most.Sub(saturation)).ConvertToInt32().Add(archsimd.LoadUint32x8(&longsHalf255).AsInt32x8())
			smallest := by255(next)
			// All of these are integers below 2^24. The quotient may be one too small.
			product := square.Sub(saturation.Mul(way)).Mul(value).Add(halfSquare)
			quotient := product.Mul(perSquare).Floor()
			rest := product.Sub(quotient.Mul(square))
			quotient = quotient.Add(oneFloat).Merge(quotient, rest.GreaterEqual(square))
			all := largest.Or(left(quotient.ConvertToInt32(), &longs8)).Or(left(smallest, &longs16)).AsUint32x8()

			index := sector.AsUint32x8()
			outR = right(outR, &longs8).Or(all.ShiftRight(tableR.Permute(index)).ShiftLeft(highest))
			outG = right(outG, &longs8).Or(all.ShiftRight(tableG.Permute(index)).ShiftLeft(highest))
			outB = right(outB, &longs8).Or(all.ShiftRight(tableB.Permute(index)).ShiftLeft(highest))
		}
		outR.AsUint8x32().Store(pr)
		outG.AsUint8x32().Store(pg)
		outB.AsUint8x32().Store(pb)
	}
	archsimd.ClearAVXUpperBits()
	return n
}

// by255 is x/255, from x+1 below 2^16: (x + 1 + (x+1)>>8) >> 8.
func by255(next archsimd.Int32x8) archsimd.Int32x8 {
	return right(next.AsUint32x8().Add(right(next.AsUint32x8(), &longs8)), &longs8).AsInt32x8()
}

package cpu

import (
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/train/device"
)

// With precision bf16, activations are bfloat16, and so are both factors of convolutions,
// whose sums are float32. On processors with products of bfloat16 (AVX512_BF16) these are
// used; on others, and for convolutions of odd numbers of channels, the factors are
// rounded in the same way and multiplied in float32. Everything else is computed in
// float32 or float64 as with precision fp32, and rounded once.

// values are a tensor's content, float32 or bfloat16.
type values struct {
	floats []float32
	halves []uint16
}

func valuesOf(t device.Tensor) values {
	switch {
	case !t.Exists():
		return values{}
	case isHalf(t):
		return values{halves: t.Memory.(*memory).halves()[:t.Len()]}
	}
	return values{floats: floats(t)}
}

func isHalf(t device.Tensor) bool { return t.Exists() && t.Memory.(*memory).half }

// exist says whether there are any.
func (v values) exist() bool { return v.floats != nil || v.halves != nil }

// part is those from, ..., to-1.
func (v values) part(from, to int) values {
	switch {
	case v.halves != nil:
		return values{halves: v.halves[from:to]}
	case v.floats != nil:
		return values{floats: v.floats[from:to]}
	}
	return v
}

// load is values from, ..., to-1 as float32, those of bfloat16 in the buffer.
func (v values) load(buffer []float32, from, to int) []float32 {
	if v.halves == nil {
		return v.floats[from:to]
	}
	gemm.Widen(buffer[:to-from], v.halves[from:to])
	return buffer[:to-from]
}

// room is where values from, ..., to-1 are to be computed before they are stored: they
// themselves, or the buffer.
func (v values) room(buffer []float32, from, to int) []float32 {
	if v.halves == nil {
		return v.floats[from:to]
	}
	return buffer[:to-from]
}

// store stores what was computed in the room of the values from the given one on.
func (v values) store(room []float32, from int) {
	if v.halves != nil {
		gemm.Narrow(v.halves[from:from+len(room)], room)
	}
}

// put stores row from the given value on, or adds it to what is there: row is spoilt.
func (v values) put(row []float32, from int, accumulate bool, buffer []float32) {
	switch to := from + len(row); {
	case v.halves == nil && accumulate:
		addTo(v.floats[from:to], row)
	case v.halves == nil:
		copy(v.floats[from:to], row)
	default:
		if accumulate {
			addTo(row, v.load(buffer, from, to))
		}
		gemm.Narrow(v.halves[from:to], row)
	}
}

// conversion is an operation on float32 copies of activations.
type conversion struct {
	d      *Device
	copies []device.Tensor
	of     []device.Tensor // what a copy is written back to, if anything
}

// converted runs an operation on float32 copies of activations, which in and out make, and
// writes those of out back. For what takes little of a step.
func (d *Device) converted(run func(c *conversion)) {
	c := &conversion{d: d}
	run(c)
	for i, t := range c.copies {
		if to := valuesOf(c.of[i]); to.exist() {
			from := floats(t)
			d.spans(len(from), func(first, last int) { gemm.Narrow(to.halves[first:last], from[first:last]) })
		}
		d.Free(t)
	}
}

// in is a copy to be read.
func (c *conversion) in(t device.Tensor) device.Tensor {
	if !isHalf(t) {
		return t
	}
	copied := c.d.Alloc(t.Shape...)
	to, from := floats(copied), valuesOf(t).halves
	c.d.spans(len(to), func(first, last int) { gemm.Widen(to[first:last], from[first:last]) })
	c.copies, c.of = append(c.copies, copied), append(c.of, device.Tensor{})
	return copied
}

// out is a copy to be written; changed, one to be read as well.
func (c *conversion) out(t device.Tensor) device.Tensor {
	if !isHalf(t) {
		return t
	}
	copied := c.d.Alloc(t.Shape...)
	c.copies, c.of = append(c.copies, copied), append(c.of, t)
	return copied
}

func (c *conversion) changed(t device.Tensor) device.Tensor {
	if !isHalf(t) {
		return t
	}
	copied := c.in(t)
	c.of[len(c.of)-1] = t
	return copied
}

// rounded is a copy of weights as bfloat16 has them.
func (c *conversion) rounded(w device.Tensor) device.Tensor {
	copied := c.d.Alloc(w.Shape...)
	to, from := floats(copied), floats(w)
	c.d.spans(len(to), func(first, last int) {
		var half [1024]uint16
		for at := first; at < last; at += len(half) {
			n := min(len(half), last-at)
			gemm.Narrow(half[:n], from[at:at+n])
			gemm.Widen(to[at:at+n], half[:n])
		}
	})
	c.copies, c.of = append(c.copies, copied), append(c.of, device.Tensor{})
	return copied
}

// pairs views bfloat16 values as pairs of neighbours, as kernels take them.
func pairs(halves []uint16) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(halves))), len(halves)/2)
}

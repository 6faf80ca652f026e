//go:build cuda

package cuda

import (
	"slices"
	"unsafe"

	"github.com/seed-436d2970/pixpro/train/device"
)

// Kinds of operations that are launched together.
type tableKind int

const (
	zeros tableKind = iota
	averages
	updates
	tableKinds
)

// entry is Entry of kernels.cu: a tensor of such an operation.
type entry struct {
	a, b, c      uint64
	n            int64
	decay        float64
	first, adapt int32
}

// fewZeros are cleared one by one, and leave the table of a step's gradients alone.
const fewZeros = 4

// partElements is PART of kernels.cu.
const partElements = 16 * threads

// batch are calls of one kind, in a row, that have not been queued: the next call
// of another kind, or whose result somebody waits for, queues them as one launch.
type batch struct {
	kind     tableKind
	entries  []entry
	blocks   int
	bytes    int64
	adapts   bool
	momentum float64       // of averages
	update   device.Update // what all updates share
}

// table is a batch's entries on the card, kept for the next step's, which are the
// same.
type table struct {
	entries []entry
	tensor  device.Tensor
}

// collect adds a call to the batch. like is a batch without entries that has all
// which the call must share with others.
func (d *Device) collect(like batch, e entry, bytes int64) {
	if e.n == 0 || d.failure.Load() != nil {
		return
	}
	if b := &d.batch; len(b.entries) > 0 && (b.kind != like.kind || b.momentum != like.momentum || b.update != like.update) {
		d.flush()
	}
	if len(d.batch.entries) == 0 {
		d.batch = like
	}
	b := &d.batch
	e.first = int32(b.blocks)
	b.blocks += int((e.n + partElements - 1) / partElements)
	mustBe(b.blocks < 1<<31, "%d blocks in a launch", b.blocks)
	b.entries, b.bytes, b.adapts = append(b.entries, e), b.bytes+bytes, b.adapts || e.adapt != 0
}

// flush queues the batch.
func (d *Device) flush() {
	b := d.batch
	if len(b.entries) == 0 {
		return
	}
	d.batch = batch{}
	if b.kind == zeros && len(b.entries) < fewZeros {
		for _, e := range b.entries {
			d.clear(uintptr(e.a), 4*e.n)
		}
		return
	}
	t := d.tableOf(&b)
	n := len(b.entries)
	launch := func(kernel string, blocks int, bytes int64, args ...any) {
		d.launch(kernel, [3]int{blocks, 1, 1}, [2]int{threads, 1}, bytes, args...)
	}
	switch b.kind {
	case zeros:
		launch("zero_table", b.blocks, b.bytes, t, n)
	case averages:
		launch("average_table", b.blocks, b.bytes, t, n, float32(b.momentum), float32(1-b.momentum))
	case updates:
		scales, partial := d.doubles(n), device.Tensor{}
		if b.adapts {
			partial = d.doubles(2 * b.blocks)
			launch("lars_norms", b.blocks, b.bytes/5*2, partial, t, n)
		}
		launch("lars_scales", n, size(partial), scales, partial, t, b.update.Trust, b.update.Epsilon)
		launch("update_table", b.blocks, b.bytes, t, n, scales, float32(b.update.Momentum), float32(b.update.LearningRate))
		d.Free(scales)
		d.Free(partial)
	}
}

// tableOf is the batch's entries on the card.
func (d *Device) tableOf(b *batch) device.Tensor {
	t := &d.tables[b.kind]
	if slices.Equal(t.entries, b.entries) {
		return t.tensor
	}
	d.Free(t.tensor)
	words := len(b.entries) * int(unsafe.Sizeof(entry{})) / 4
	*t = table{b.entries, d.Alloc(words)}
	d.Upload(t.tensor, unsafe.Slice((*float32)(unsafe.Pointer(&b.entries[0])), words))
	return t.tensor
}

// address is a tensor's place as an entry has it.
func address(t device.Tensor) uint64 { return uint64(pointer(t)) }

// Zero implements device.Device.
func (d *Device) Zero(t device.Tensor) {
	if isHalf(t) {
		d.clear(pointer(t), size(t))
		return
	}
	d.collect(batch{kind: zeros}, entry{a: address(t), n: int64(t.Len())}, size(t))
}

// Update implements device.Device.
func (d *Device) Update(p, buffer, g device.Tensor, u device.Update) {
	mustBe(p.Len() == g.Len() && p.Len() == buffer.Len(), "update of %v by %v", p.Shape, g.Shape)
	e := entry{a: address(p), b: address(buffer), c: address(g), n: int64(p.Len()), decay: u.WeightDecay}
	if u.Adapt {
		e.adapt = 1
	}
	u.WeightDecay, u.Adapt = 0, false // each entry has its own
	d.collect(batch{kind: updates, update: u}, e, 5*size(p))
}

// MovingAverage implements device.Device.
func (d *Device) MovingAverage(key, query device.Tensor, momentum float64) {
	mustBe(key.Len() == query.Len(), "moving average of %v and %v", key.Shape, query.Shape)
	d.collect(batch{kind: averages, momentum: momentum}, entry{a: address(key), b: address(query), n: int64(key.Len())}, 3*size(key))
}

package shards

import (
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"
)

// fbTable reads a flatbuffers table of Arrow's metadata by field number. An
// absent field is the type's zero. Damaged data makes it panic with a
// runtime.Error: see guard.
type fbTable struct{ flatbuffers.Table }

// fbRoot is the table that a buffer holds. What it refers to beyond the buffer's
// end is damaged, whatever lies there.
func fbRoot(data []byte) fbTable {
	data = slices.Clip(data)
	return fbTable{flatbuffers.Table{Bytes: data, Pos: flatbuffers.GetUOffsetT(data)}}
}

// slot is the position of field n in the table, 0 if it is absent.
func (t *fbTable) slot(n int) flatbuffers.UOffsetT {
	return flatbuffers.UOffsetT(t.Offset(flatbuffers.VOffsetT(4 + 2*n)))
}

// scalar is the value of field n, read by get.
func scalar[T any](t *fbTable, n int, get func(flatbuffers.UOffsetT) T) (v T) {
	if o := t.slot(n); o != 0 {
		v = get(t.Pos + o)
	}
	return v
}

func (t *fbTable) byte(n int) byte   { return scalar(t, n, t.GetByte) }
func (t *fbTable) int16(n int) int16 { return scalar(t, n, t.GetInt16) }
func (t *fbTable) int32(n int) int32 { return scalar(t, n, t.GetInt32) }
func (t *fbTable) int64(n int) int64 { return scalar(t, n, t.GetInt64) }

func (t *fbTable) string(n int) string {
	if o := t.slot(n); o != 0 {
		return string(t.ByteVector(t.Pos + o))
	}
	return ""
}

// table is the table that field n refers to.
func (t *fbTable) table(n int) (child fbTable, ok bool) {
	o := t.slot(n)
	if o == 0 {
		return fbTable{}, false
	}
	return fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(t.Pos + o)}}, true
}

// structs are the bytes of a vector of structs that take size bytes each.
func (t *fbTable) structs(n, size int) []byte {
	o := t.slot(n)
	if o == 0 {
		return nil
	}
	start := int(t.Vector(o))
	return t.Bytes[start : start+t.VectorLen(o)*size]
}

// tables are the tables of a vector of them, at most limit.
func (t *fbTable) tables(n, limit int) []fbTable {
	o := t.slot(n)
	if o == 0 {
		return nil
	}
	start := t.Vector(o)
	out := make([]fbTable, min(limit, t.VectorLen(o)))
	for i := range out {
		pos := t.Indirect(start + flatbuffers.UOffsetT(4*i))
		out[i] = fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: pos}}
	}
	return out
}

package pickle

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Write writes a value made of nil, bool, int64, string, Bytes, Tuple, *Dict,
// Global, Persistent and *Object under the given protocol's number: 2, or 3 if
// there are Bytes. Other types, and texts that a pickle cannot hold, are errors.
func Write(w io.Writer, protocol byte, value any) error {
	e := encoder{w: w}
	e.write(opProto, protocol)
	e.value(value)
	e.write(opStop)
	if e.err != nil {
		return fmt.Errorf("pickle: write: %w", e.err)
	}
	return nil
}

// encoder keeps the first error.
type encoder struct {
	w   io.Writer
	err error
}

func (e *encoder) write(b ...byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *encoder) value(value any) {
	switch v := value.(type) {
	case nil:
		e.write(opNone)
	case bool:
		if v {
			e.write(opTrue)
		} else {
			e.write(opFalse)
		}
	case int64:
		if int64(int32(v)) == v {
			e.write(binary.LittleEndian.AppendUint32([]byte{opBinInt}, uint32(v))...)
		} else {
			e.write(binary.LittleEndian.AppendUint64([]byte{opLong1, 8}, uint64(v))...)
		}
	case string:
		if !utf8.ValidString(v) {
			e.fail("%q is not UTF-8", v)
		}
		e.counted(opBinUnicode, []byte(v))
	case Bytes:
		e.counted(opBinBytes, v)
	case Tuple:
		e.write(opMark)
		for _, item := range v {
			e.value(item)
		}
		e.write(opTuple)
	case *Dict:
		e.write(opEmptyDict)
		e.items(v)
	case Global:
		if strings.Contains(v.Module+v.Name, "\n") {
			e.fail("line break in the name %q", v)
		}
		e.write(opGlobal)
		e.write([]byte(v.Module + "\n" + v.Name + "\n")...)
	case Persistent:
		e.value(v.ID)
		e.write(opBinPersID)
	case *Object:
		e.value(v.Callable)
		e.value(v.Args)
		e.write(opReduce)
		e.items(&v.Dict)
		if v.State != nil {
			e.value(v.State)
			e.write(opBuild)
		}
	default:
		e.fail("a value of type %T", value)
	}
}

func (e *encoder) items(d *Dict) {
	if len(d.Items) == 0 {
		return
	}
	e.write(opMark)
	for _, item := range d.Items {
		e.value(item.Key)
		e.value(item.Value)
	}
	e.write(opSetItems)
}

func (e *encoder) counted(op byte, b []byte) {
	if uint64(len(b)) > math.MaxUint32 {
		e.fail("%d bytes in one piece", len(b))
		return
	}
	e.write(binary.LittleEndian.AppendUint32([]byte{op}, uint32(len(b)))...)
	e.write(b...)
}

package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// maxOperations bounds the memory that a file can ask for. A checkpoint of a
// ResNet-152 with its optimizer's state has about 200 thousand.
const maxOperations = 4_000_000

// Pickle is what was read from a pickle.
type Pickle struct {
	// Value may contain values more than once, and itself: who goes through
	// all of it must take care to end.
	Value any
	// Persistent has everything in Value, or on the way to it, that stands for
	// something outside, in the order of its appearance.
	Persistent []Persistent
}

// Read reads the pickle that data begins with and returns what follows it.
// All errors are ErrFormat.
func Read(data []byte) (p Pickle, rest []byte, err error) {
	m := machine{data: data, memo: map[uint32]any{}}
	for range maxOperations {
		at := m.at
		stop, err := m.step()
		if stop && err == nil {
			p.Persistent = m.persistent
			p.Value, err = m.pop()
		}
		if err != nil {
			return Pickle{}, nil, fmt.Errorf("%w: byte %d: %w", ErrFormat, at, err)
		}
		if stop {
			return p, data[m.at:], nil
		}
	}
	return Pickle{}, nil, fmt.Errorf("%w: more than %d operations", ErrFormat, maxOperations)
}

// machine is the stack machine.
type machine struct {
	data  []byte
	at    int
	stack []any
	marks []int // heights of the stack
	memo  map[uint32]any

	persistent []Persistent
}

var (
	errShort = errors.New("it ends too early")
	errStack = errors.New("it takes what is not on the stack")
)

// step runs one operation.
func (m *machine) step() (stop bool, err error) {
	op, err := m.byte()
	if err != nil {
		return false, err
	}
	switch op {
	case opProto:
		version, err := m.byte()
		if err == nil && version > 5 {
			err = fmt.Errorf("protocol %d", version)
		}
		return false, err
	case opFrame:
		_, err := m.take(8) // a hint for buffering
		return false, err
	case opStop:
		return true, nil
	case opMark:
		m.marks = append(m.marks, len(m.stack))
		return false, nil
	case opPop:
		_, err := m.pop()
		return false, err
	case opPopMark:
		_, err := m.popMark()
		return false, err
	case opAppend, opAppends, opAddItems, opSetItem, opSetItems, opBuild:
		return false, m.fill(op)
	case opBinPut, opLongBinPut, opMemoize:
		return false, m.remember(op)
	}
	v, err := m.value(op)
	if err != nil {
		return false, err
	}
	m.stack = append(m.stack, v)
	return false, nil
}

// value runs an operation that pushes a value.
func (m *machine) value(op byte) (any, error) {
	switch op {
	case opNone:
		return nil, nil
	case opTrue:
		return true, nil
	case opFalse:
		return false, nil
	case opBinInt, opBinInt1, opBinInt2, opLong1, opLong4, opBinFloat:
		return m.number(op)
	case opBinUnicode, opShortBinUnicode, opBinUnicode8, opShortBinString, opBinString,
		opBinBytes, opShortBinBytes, opBinBytes8, opByteArray8:
		return m.text(op)
	case opEmptyTuple:
		return Tuple(nil), nil
	case opTuple1, opTuple2, opTuple3:
		return m.tuple(int(op - opTuple1 + 1))
	case opTuple:
		items, err := m.popMark()
		return Tuple(items), err
	case opEmptyList, opEmptySet:
		return &List{}, nil
	case opList, opFrozenSet:
		items, err := m.popMark()
		return &List{items}, err
	case opEmptyDict:
		return &Dict{}, nil
	case opDict:
		items, err := m.popMark()
		if err != nil {
			return nil, err
		}
		d := &Dict{}
		return d, d.add(items)
	case opGlobal, opStackGlobal:
		return m.global(op)
	case opReduce, opNewObj, opNewObjEx:
		return m.call(op)
	case opBinPersID:
		id, err := m.pop()
		m.persistent = append(m.persistent, Persistent{id})
		return Persistent{id}, err
	case opDup:
		return m.top()
	case opBinGet, opLongBinGet:
		i, err := m.size(map[byte]int{opBinGet: 1, opLongBinGet: 4}[op])
		if err != nil {
			return nil, err
		}
		v, ok := m.memo[uint32(i)]
		if !ok {
			return nil, fmt.Errorf("nothing was remembered as %d", i)
		}
		return v, nil
	}
	return nil, fmt.Errorf("operation 0x%02x is not one of those that weights need", op)
}

func (m *machine) number(op byte) (any, error) {
	switch op {
	case opBinInt:
		n, err := m.size(4)
		return int64(int32(n)), err
	case opBinInt1:
		n, err := m.size(1)
		return int64(n), err
	case opBinInt2:
		n, err := m.size(2)
		return int64(n), err
	case opBinFloat:
		b, err := m.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	}
	b, err := m.counted(map[byte]int{opLong1: 1, opLong4: 4}[op])
	if err != nil || len(b) > 8 {
		return Long(b), err
	}
	// The sign is the last byte's highest bit.
	var n int64
	for i := len(b) - 1; i >= 0; i-- {
		n = n<<8 | int64(b[i])
		if i == len(b)-1 {
			n = int64(int8(b[i]))
		}
	}
	return n, nil
}

func (m *machine) text(op byte) (any, error) {
	var width int
	switch op {
	case opShortBinUnicode, opShortBinString, opShortBinBytes:
		width = 1
	case opBinUnicode, opBinString, opBinBytes:
		width = 4
	default:
		width = 8
	}
	b, err := m.counted(width)
	if err != nil {
		return nil, err
	}
	switch op {
	case opBinBytes, opShortBinBytes, opBinBytes8, opByteArray8:
		return Bytes(b), nil
	case opBinUnicode, opShortBinUnicode, opBinUnicode8:
		if !utf8.Valid(b) {
			return nil, errors.New("a text is not UTF-8")
		}
	}
	return string(b), nil
}

func (m *machine) tuple(n int) (any, error) {
	if len(m.stack) < m.floor()+n {
		return nil, errStack
	}
	t := append(Tuple(nil), m.stack[len(m.stack)-n:]...)
	m.stack = m.stack[:len(m.stack)-n]
	return t, nil
}

func (m *machine) global(op byte) (any, error) {
	if op == opStackGlobal {
		name, err := m.pop()
		if err != nil {
			return nil, err
		}
		module, err := m.pop()
		if err != nil {
			return nil, err
		}
		a, okA := module.(string)
		b, okB := name.(string)
		if !okA || !okB {
			return nil, errors.New("a name is not a text")
		}
		return Global{a, b}, nil
	}
	module, err := m.line()
	if err != nil {
		return nil, err
	}
	name, err := m.line()
	return Global{module, name}, err
}

func (m *machine) call(op byte) (any, error) {
	if op == opNewObjEx {
		if _, err := m.pop(); err != nil { // arguments by name
			return nil, err
		}
	}
	args, err := m.pop()
	if err != nil {
		return nil, err
	}
	callable, err := m.pop()
	if err != nil {
		return nil, err
	}
	tuple, ok := args.(Tuple)
	if !ok {
		return nil, errors.New("a call's arguments are not a tuple")
	}
	return &Object{Callable: callable, Args: tuple}, nil
}

// fill puts what is on the stack into the container or object below it.
func (m *machine) fill(op byte) (err error) {
	var items []any
	if op == opAppends || op == opAddItems || op == opSetItems {
		items, err = m.popMark()
	} else {
		n := 1
		if op == opSetItem {
			n = 2
		}
		var t any
		if t, err = m.tuple(n); err == nil {
			items = t.(Tuple)
		}
	}
	if err != nil {
		return err
	}
	into, err := m.top()
	if err != nil {
		return err
	}
	switch v := into.(type) {
	case *Object:
		switch op {
		case opBuild:
			v.State = items[0]
		case opSetItem, opSetItems:
			return v.Dict.add(items)
		default:
			v.List = append(v.List, items...)
		}
		return nil
	case *Dict:
		if op == opSetItem || op == opSetItems {
			return v.add(items)
		}
	case *List:
		if op == opAppend || op == opAppends || op == opAddItems {
			v.Items = append(v.Items, items...)
			return nil
		}
	}
	return fmt.Errorf("operation %q on something that it cannot fill", op)
}

func (d *Dict) add(items []any) error {
	if len(items)%2 != 0 {
		return errors.New("a key has no value")
	}
	for i := 0; i < len(items); i += 2 {
		// Others cannot be compared, and nobody looks for them.
		switch items[i].(type) {
		case nil, bool, int64, float64, string:
			d.Items = append(d.Items, Item{items[i], items[i+1]})
		}
	}
	return nil
}

func (m *machine) remember(op byte) error {
	i := uint64(len(m.memo))
	if op != opMemoize {
		var err error
		if i, err = m.size(map[byte]int{opBinPut: 1, opLongBinPut: 4}[op]); err != nil {
			return err
		}
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	m.memo[uint32(i)] = v
	return nil
}

// floor is the height below which only popMark reaches.
func (m *machine) floor() int {
	if len(m.marks) == 0 {
		return 0
	}
	return m.marks[len(m.marks)-1]
}

func (m *machine) top() (any, error) {
	if len(m.stack) <= m.floor() {
		return nil, errStack
	}
	return m.stack[len(m.stack)-1], nil
}

func (m *machine) pop() (any, error) {
	v, err := m.top()
	if err != nil {
		return nil, err
	}
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// popMark takes all that lies above the last mark.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errStack
	}
	from := m.floor()
	m.marks = m.marks[:len(m.marks)-1]
	items := append([]any(nil), m.stack[from:]...)
	m.stack = m.stack[:from]
	return items, nil
}

func (m *machine) byte() (byte, error) {
	b, err := m.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// take returns the next n bytes.
func (m *machine) take(n int) ([]byte, error) {
	if n > len(m.data)-m.at {
		return nil, errShort
	}
	m.at += n
	return m.data[m.at-n : m.at : m.at], nil
}

// size reads an unsigned little-endian number of the given width.
func (m *machine) size(width int) (uint64, error) {
	b, err := m.take(width)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// counted reads a length and as many bytes.
func (m *machine) counted(width int) ([]byte, error) {
	n, err := m.size(width)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(m.data)-m.at) {
		return nil, errShort
	}
	return m.take(int(n))
}

func (m *machine) line() (string, error) {
	n := bytes.IndexByte(m.data[m.at:], '\n')
	if n < 0 {
		return "", errShort
	}
	b, err := m.take(n + 1)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

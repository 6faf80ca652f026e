// Package pickle reads and writes the part of Python's pickle format that
// files of weights are made of.
//
// A pickle is a program for a small stack machine (documented in CPython's
// Lib/pickletools.py). Python runs it, and so imports and calls whatever it
// names. This reader runs nothing: a name becomes a Global, a call becomes an
// Object that says what would have been called with what, and it is the
// caller's business to recognise the few that mean a tensor. A length in the
// file is believed only as far as there are bytes; the number of operations is
// bounded, and so is the memory for the values, at about 200 bytes an
// operation.
//
// The writer uses the operations that its constants list and no others: values
// are written one inside the other, without memo.
package pickle

import "errors"

// ErrFormat is the class of errors for bytes that are no pickle, or one that
// uses what is not read.
var ErrFormat = errors.New("not a readable pickle")

// Values are nil, bool, int64, float64, string, and the types below.
type (
	// Long is an integer of more than 8 bytes: little-endian, two's complement.
	Long string
	// Bytes is a bytes object.
	Bytes []byte
	// Tuple is a tuple.
	Tuple []any
	// List is a list, or a set.
	List struct{ Items []any }
	// Dict is a dict in the order of its keys' appearance. A key may be there
	// more than once; the last counts.
	Dict struct{ Items []Item }
	// Item is an entry of a Dict.
	Item struct{ Key, Value any }
	// Global is the name of a class or function.
	Global struct{ Module, Name string }
	// Persistent stands for something that lies outside of the pickle.
	Persistent struct{ ID any }
	// Object is what calling Callable with Args would have made, and what was
	// then put into it.
	Object struct {
		Callable any
		Args     Tuple
		Dict           // its items, if it was filled as a dict
		List     []any // its items, if it was filled as a list
		State    any   // what its state was set to, nil for nothing
	}
)

// String returns the name as Python would write it.
func (g Global) String() string { return g.Module + "." + g.Name }

// Get returns the value of a string key, nil if there is none.
func (d *Dict) Get(key string) any {
	for i := len(d.Items) - 1; i >= 0; i-- {
		if d.Items[i].Key == key {
			return d.Items[i].Value
		}
	}
	return nil
}

// The operations. Those above the line are all that Write uses.
const (
	opProto      = 0x80 // version: the first operation
	opStop       = '.'  // the value on the stack is the result
	opMark       = '('  // begins what opTuple and opSetItems take
	opNone       = 'N'
	opTrue       = 0x88
	opFalse      = 0x89
	opBinInt     = 'J'  // int32
	opLong1      = 0x8a // length in a byte, two's complement
	opBinUnicode = 'X'  // length in 4 bytes, UTF-8
	opBinBytes   = 'B'  // length in 4 bytes; from protocol 3
	opTuple      = 't'  // from the mark
	opEmptyDict  = '}'
	opSetItems   = 'u' // keys and values from the mark
	opGlobal     = 'c' // module and name, a line each
	opReduce     = 'R' // call
	opBuild      = 'b' // set the state
	opBinPersID  = 'Q'

	// ---- read only ----

	opPop             = '0'
	opPopMark         = '1'
	opDup             = '2'
	opBinFloat        = 'G'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opLong4           = 0x8b
	opShortBinString  = 'U'
	opBinString       = 'T'
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opShortBinBytes   = 'C'
	opBinBytes8       = 0x8e
	opByteArray8      = 0x96
	opEmptyTuple      = ')'
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opEmptyList       = ']'
	opList            = 'l'
	opDict            = 'd'
	opAppend          = 'a'
	opAppends         = 'e'
	opSetItem         = 's'
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opNewObj          = 0x81
	opNewObjEx        = 0x92
	opStackGlobal     = 0x93
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opBinPut          = 'q'
	opLongBinPut      = 'r'
	opMemoize         = 0x94
	opFrame           = 0x95
)

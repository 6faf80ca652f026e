package shards

import (
	"fmt"
	"runtime"
	"strings"
)

// CorruptError says what is wrong with the content of a shard.
type CorruptError struct {
	Shard  string `json:"shard"`         // file name
	Row    int64  `json:"row"`           // row in the shard; -1: the file as a whole
	Key    string `json:"key,omitempty"` // the row's key, where it is known
	Reason string `json:"reason"`
}

func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "shards: %s: ", e.Shard)
	if e.Row >= 0 {
		fmt.Fprintf(&b, "row %d", e.Row)
		if e.Key != "" {
			fmt.Fprintf(&b, " (%s)", e.Key)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// withRemedy is the error as users of a dataset get it.
func (e *CorruptError) withRemedy() error {
	return fmt.Errorf("%w (pixpro verify lists every fault)", e)
}

// guard runs read and turns what damaged data or a failing disk can make it
// panic with into an error: an index out of range in the flatbuffers that
// describe a shard, or a fault while the memory map is read, if the caller has
// asked for that by debug.SetPanicOnFault.
func guard(read func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("invalid Arrow metadata or unreadable data: %w", r)
		default:
			panic(r)
		}
	}()
	return read()
}

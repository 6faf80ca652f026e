package shards

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// ChangedError is the error of a shard that something wrote to while it was
// read: the dataset is no longer the one that was opened.
type ChangedError struct {
	Shard     string // file name
	Then, Now int64  // bytes
}

func (e *ChangedError) Error() string {
	now := fmt.Sprintf("%d now", e.Now)
	if e.Now == e.Then {
		now = "as many now, but was written to"
	}
	return fmt.Sprintf("shards: %s was changed while it was read: it had %d bytes and has %s; let nothing write to a dataset in use (pixpro verify says what is left of it)", e.Shard, e.Then, now)
}

// changed returns a *ChangedError if the file at path, with what is known of it
// since it was opened, was written to.
func changed(path string, then os.FileInfo) error {
	now, err := os.Stat(path)
	if err != nil || !os.SameFile(then, now) || now.Size() == then.Size() && now.ModTime().Equal(then.ModTime()) {
		return nil // a file that was removed or replaced is still the one that was opened
	}
	return &ChangedError{Shard: filepath.Base(path), Then: then.Size(), Now: now.Size()}
}

// ErrUnreadable is the class of errors of a shard that the disk does not give.
// It says nothing about the data: to go on without the row would be another run.
var ErrUnreadable = errors.New("cannot be read: the disk fails, or the file was cut short")

// guard runs read and turns what damaged data or a failing disk can make it
// panic with into an error: an index out of range in the flatbuffers that
// describe a shard, or a fault while the memory map is read, if the caller has
// asked for that by debug.SetPanicOnFault.
func guard(read func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // see debug.SetPanicOnFault
			err = ErrUnreadable
		case runtime.Error:
			err = errors.New("invalid Arrow metadata")
		default:
			panic(r)
		}
	}()
	return read()
}

package ingest

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// File is one file of an input. A listing has millions of them.
type File struct {
	Key string // path in the input, with slashes
	// At and Size are for the source: where an archive has the file, and how
	// long it is there. Of two files of one key the one with the larger At counts;
	// a resumed run notices by Size that a file is another one.
	At, Size int64
	Label    int32  // into Contents.Classes, -1 none
	Input    uint16 // number of the input, set by what joins inputs
	Fault    Fault  // why it cannot be read
}

// Fault is what was wrong with a file when it was listed.
type Fault uint8

// The faults.
const (
	FaultNone     Fault = iota
	FaultLink           // a link that leads nowhere
	FaultSparse         // a sparse file in a tar
	FaultReplaced       // a later file has the same key
)

func (f Fault) String() string {
	return [...]string{
		FaultLink:     "a link that leads nowhere",
		FaultSparse:   "stored as a sparse file, which is not supported",
		FaultReplaced: "a later file of the input has the same name",
	}[f]
}

// Contents is what one input holds. Its zero value is empty.
type Contents struct {
	Files    []File
	Classes  []string
	Numbered bool  // labels are numbers that came with the input; a class may have no name
	Skipped  int64 // what is no file with content, or belongs to another file

	UnusedLabels int64 // names in the input's own file of labels that it does not have

	index map[string]int32 // of Classes
}

// Check finds out whether a source's listing is one: others must not be taken.
func (c *Contents) Check() error {
	if c == nil {
		return errors.New("ingest: a source listed nothing and gave no error")
	}
	for i := range c.Files {
		f := &c.Files[i]
		if f.Label < -1 || int(f.Label) >= len(c.Classes) || f.Fault > FaultReplaced {
			return fmt.Errorf("ingest: a source lists %s with label %d of %d classes and fault %d: use Contents.Add", f.Key, f.Label, len(c.Classes), f.Fault)
		}
	}
	return nil
}

// Add adds a file to the named class; "" is none.
func (c *Contents) Add(f File, class string) {
	f.Label = -1
	if class != "" {
		f.Label = c.class(class)
	}
	c.Files = append(c.Files, f)
}

func (c *Contents) class(name string) int32 {
	label, found := c.index[name]
	if !found {
		if c.index == nil {
			c.index = map[string]int32{}
		}
		label = int32(len(c.Classes))
		// A copy, as name can be a part of a key that the listing drops.
		name = strings.Clone(name)
		c.Classes = append(c.Classes, name)
		c.index[name] = label
	}
	return label
}

// FolderClass is the class of a file by its place: the first folder, if
// any.
func FolderClass(key string) string {
	class, _, found := strings.Cut(key, "/")
	if !found || !utf8.ValidString(class) {
		return ""
	}
	return class
}

// HasImageExtension reports whether the file's name promises an image.
func HasImageExtension(key string) bool {
	if strings.HasPrefix(path.Base(key), "._") {
		return false // what macOS puts beside a file in an archive
	}
	switch strings.ToLower(path.Ext(key)) {
	case ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp":
		return true
	}
	return false
}

package ingest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxClasses bounds the numbers that classes may have.
const maxClasses = 1 << 20

// Labels is a file of labels: for names, or for images in the order of their
// names.
type Labels struct {
	path    string
	byName  map[string]label
	inOrder []string // from 1, as ILSVRC's ground truth; nil: byName
}

type label struct {
	value string
	used  bool // an input has a file of that name
}

// ReadLabels reads lines of a name and a label with a tab (or a space) between
// them, or lines of a number each.
func ReadLabels(name string) (*Labels, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &Labels{path: name}
	err = eachLine(f, func(line []byte) error {
		i := bytes.LastIndexByte(line, '\t')
		if i < 0 {
			i = bytes.LastIndexByte(bytes.TrimRight(line, " "), ' ')
		}
		value := string(bytes.TrimSpace(line[i+1:]))
		if i < 0 {
			if n, err := strconv.Atoi(value); err != nil || n < 1 || n > maxClasses {
				return fmt.Errorf("%.40q is neither NAME<tab>LABEL nor a number from 1", line)
			}
			l.inOrder = append(l.inOrder, value)
		} else {
			if l.byName == nil {
				l.byName = map[string]label{}
			}
			key := archiveKey(string(line[:i]))
			if before, found := l.byName[key]; found && before.value != value {
				return fmt.Errorf("%s has the label %s and the label %s", key, before.value, value)
			}
			l.byName[key] = label{value: value}
		}
		if l.byName != nil && l.inOrder != nil {
			return errors.New("some lines have a name and some have none")
		}
		return nil
	})
	if err == nil && l.byName == nil && l.inOrder == nil {
		err = errors.New("has no labels")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// InOrder says that the labels have no names: they are of the images in the
// order of theirs.
func (l *Labels) InOrder() bool { return l.inOrder != nil }

// Apply gives the files their labels. Names in the input may have folders in
// front of those that the labels have, or the other way round, as long as the
// labels' folders are the same for all.
func (l *Labels) Apply(c *Contents) error {
	if l.inOrder != nil {
		return l.applyInOrder(c)
	}
	prefix, matches := "", false
	for more := true; more && !matches; {
		if matches = l.matches(c, prefix); !matches {
			prefix, more = l.longerPrefix(prefix)
		}
	}
	if !matches {
		return fmt.Errorf("%s: none of its names is one of the input's", l.path)
	}
	err := c.Relabel(func(key string) (string, bool) {
		name, found := l.find(prefix, key)
		if !found {
			return "", false
		}
		v := l.byName[name]
		v.used = true
		l.byName[name] = v
		return v.value, true
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	return nil
}

// matches reports whether any file has a label, its name there beginning with
// the prefix.
func (l *Labels) matches(c *Contents, prefix string) bool {
	return slices.ContainsFunc(c.Files, func(f File) bool {
		_, found := l.find(prefix, f.Key)
		return found
	})
}

// find is the name that the labels have for a file: the prefix and its key, or
// what is left of the key without some of its first folders.
func (l *Labels) find(prefix, key string) (name string, found bool) {
	for more := true; more; _, key, more = strings.Cut(key, "/") {
		if _, found := l.byName[prefix+key]; found {
			return prefix + key, true
		}
	}
	return "", false
}

// longerPrefix is the prefix and one more folder, if all names begin with it.
func (l *Labels) longerPrefix(prefix string) (longer string, all bool) {
	for name := range l.byName {
		if longer == "" {
			folder, _, found := strings.Cut(name[len(prefix):], "/")
			if !found {
				return "", false
			}
			longer = prefix + folder + "/"
		}
		if !strings.HasPrefix(name, longer) {
			return "", false
		}
	}
	return longer, true
}

// Unused counts the names that no input has.
func (l *Labels) Unused() int64 {
	n := int64(0)
	for _, v := range l.byName {
		if !v.used {
			n++
		}
	}
	return n
}

func (l *Labels) applyInOrder(c *Contents) error {
	var keys []string
	for _, f := range c.Files {
		if HasImageExtension(f.Key) {
			keys = append(keys, f.Key)
		}
	}
	if len(keys) != len(l.inOrder) {
		return fmt.Errorf("%s: has %d labels for %d images: one a line is needed", l.path, len(l.inOrder), len(keys))
	}
	// Images of a flat archive and of folders are in the same order.
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(path.Base(a), path.Base(b)), cmp.Compare(a, b))
	})
	values := make(map[string]string, len(keys))
	most := 0
	for i, key := range keys {
		n, err := strconv.Atoi(l.inOrder[i])
		if err != nil {
			return err
		}
		most = max(most, n)
		values[key] = strconv.Itoa(n - 1) // labels count from 0
	}
	err := c.Relabel(func(key string) (string, bool) {
		value, ok := values[key]
		return value, ok
	})
	for i := range most {
		c.Classes[i] = strconv.Itoa(i + 1)
	}
	return err
}

// Relabel gives every file the class that value has for its key, or none. If
// all values are numbers they are the labels, and a class has the name of the
// folder that holds its images, if that is the same for all.
func (c *Contents) Relabel(value func(key string) (string, bool)) error {
	type named struct{ value, folder string }
	kept := make([]named, len(c.Files))
	numbers, names := "", "" // an example of each
	for i, f := range c.Files {
		v, found := value(f.Key)
		if !found {
			continue
		}
		if v == "" || !utf8.ValidString(v) {
			return fmt.Errorf("the label %q of %s is no name of a class", v, f.Key)
		}
		kept[i] = named{v, FolderClass(f.Key)}
		if isNumber(v) {
			numbers = v
		} else {
			names = v
		}
	}
	if names != "" && numbers != "" {
		return fmt.Errorf("some labels are numbers (%s) and some are names (%s)", numbers, names)
	}
	c.Classes, c.index, c.Numbered = nil, nil, numbers != ""
	ambiguous := map[int32]bool{}
	for i, k := range kept {
		f := &c.Files[i]
		switch {
		case k.value == "":
			f.Label = -1
		case !c.Numbered:
			f.Label = c.class(k.value)
		default:
			n, err := strconv.ParseInt(k.value, 10, 32)
			if err != nil || n < 0 || n >= maxClasses {
				return fmt.Errorf("the label %s of %s is not from 0 to %d", k.value, f.Key, maxClasses-1)
			}
			f.Label = int32(n)
			for len(c.Classes) <= int(n) {
				c.Classes = append(c.Classes, "")
			}
			switch c.Classes[n] {
			case k.folder:
			case "":
				c.Classes[n] = strings.Clone(k.folder)
			default:
				ambiguous[f.Label] = true
			}
		}
	}
	for n := range ambiguous {
		c.Classes[n] = ""
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

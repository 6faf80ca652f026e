package shards

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"
)

// Formats of inputs, for WriteConfig.Format.
const (
	FormatFolder     = "folder"     // of images; the class is the first folder below it
	FormatTar        = "tar"        // a folder in a tar, or a tar of one tar a class
	FormatZip        = "zip"        // a folder in a zip, NAME_map.txt beside it having the labels
	FormatWebDataset = "webdataset" // a tar of samples: NAME.jpg, NAME.cls
	FormatList       = "list"       // a text file of paths
)

var inputFormats = []string{FormatFolder, FormatTar, FormatZip, FormatWebDataset, FormatList}

// source is one input of Write.
type source interface {
	// list returns the files of the input in any order, the same for the same
	// input.
	list(ctx context.Context) (*contents, error)
	// open returns a listed file and its length. It and the reader fail with a
	// *rejectError where the file itself is at fault, and with any other error
	// where that must end the run. Several goroutines call it.
	open(f *file) (io.ReadCloser, int64, error)
	// unchanged fails if the input is no longer the one that was listed.
	unchanged() error
	Close() error
}

// file is one file of an input. A listing has millions of them.
type file struct {
	key    string // path in the input, with slashes
	at     int64  // where an archive has it
	size   int64  // in an archive
	label  int32  // into contents.classes, -1 none
	source uint16 // number of the input
	fault  fault  // why it cannot be read
}

// fault is what was wrong with a file when it was listed.
type fault uint8

const (
	faultNone fault = iota
	faultLink
	faultSparse
	faultReplaced
)

func (f fault) String() string {
	return [...]string{
		faultLink:     "a link that leads nowhere",
		faultSparse:   "stored as a sparse file, which is not supported",
		faultReplaced: "a later file of the input has the same name",
	}[f]
}

// contents is what one input holds.
type contents struct {
	files    []file
	classes  []string
	numbered bool // labels are numbers that came with the input; a class may have no name
	skipped  int64
	index    map[string]int32 // of classes

	unusedLabels int64 // names in the input's own file of labels that it does not have
}

// add adds a file to the named class; "" is none.
func (c *contents) add(f file, class string) {
	f.label = -1
	if class != "" {
		f.label = c.class(class)
	}
	c.files = append(c.files, f)
}

func (c *contents) class(name string) int32 {
	label, found := c.index[name]
	if !found {
		if c.index == nil {
			c.index = map[string]int32{}
		}
		label = int32(len(c.classes))
		// A copy, as name can be a part of a key that the listing drops.
		name = strings.Clone(name)
		c.classes = append(c.classes, name)
		c.index[name] = label
	}
	return label
}

// folderClass is the class of a file by its place: the first folder, if any.
func folderClass(key string) string {
	class, _, found := strings.Cut(key, "/")
	if !found || !utf8.ValidString(class) {
		return ""
	}
	return class
}

// openSource opens an input. Its content decides what it is, unless format
// names it. A compressed one is decompressed into the file that scratch names.
func openSource(ctx context.Context, cfg *WriteConfig, path, scratch string) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	format := cfg.Format
	if info.IsDir() {
		if format != "" && format != FormatFolder {
			return nil, fmt.Errorf("%s is a folder and not a %s", path, format)
		}
		return &folderSource{root: path, exclude: cfg.Out}, nil
	}
	if format == FormatFolder {
		return nil, fmt.Errorf("%s is not a folder", path)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a file nor a folder", path)
	}
	a, err := openArchive(ctx, cfg.fs, path, scratch)
	if err != nil {
		return nil, err
	}
	if format == "" {
		if format, err = a.detect(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), a.Close())
		}
	}
	switch format {
	case FormatTar, FormatWebDataset:
		return &tarSource{archive: a, webDataset: format == FormatWebDataset}, nil
	case FormatZip:
		return &zipSource{archive: a}, nil
	default:
		return &listSource{archive: a}, nil
	}
}

// archive is an input file, decompressed where it was compressed.
type archive struct {
	*os.File
	path    string      // of the input
	info    fs.FileInfo // of the input when it was opened
	size    int64       // decompressed
	scratch string      // file to remove in the end, or ""
	remove  func(string) error
}

func (a *archive) Close() error {
	err := a.File.Close()
	if a.scratch != "" {
		removeErr := a.remove(a.scratch)
		if !errors.Is(removeErr, fs.ErrNotExist) { // the end of the run removed it
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

func (a *archive) unchanged() error {
	now, err := os.Stat(a.path)
	if err != nil {
		return err
	}
	if now.Size() != a.info.Size() || !now.ModTime().Equal(a.info.ModTime()) {
		return fmt.Errorf("%s changed while it was read", a.path)
	}
	return nil
}

// detect finds the format by content.
func (a *archive) detect() (string, error) {
	head := make([]byte, tarBlock)
	n, err := a.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	head = head[:n]
	switch {
	case isTar(head):
		return FormatTar, nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return FormatZip, nil
	case n > 0 && bytes.IndexByte(head, 0) < 0:
		return FormatList, nil
	default:
		return "", errors.New("is no tar, zip or list of paths (--format says what it is meant to be)")
	}
}

// damaged wraps the error of an archive that cannot be listed.
func (a *archive) damaged(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s is damaged or cut short: %w", a.path, err)
}

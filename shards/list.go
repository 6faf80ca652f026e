package shards

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// listing is the content of an input folder. It takes about 24 bytes and the
// key's length a file.
type listing struct {
	classes []string // first folders, sorted
	files   []file   // sorted by key
	skipped int64    // neither file nor folder, or a link back to a folder it lies in
}

type file struct {
	key    string // path below the input folder, with slashes
	label  int32
	broken bool // a link that leads nowhere
}

// listFolder lists the files below root, following links except those that
// lead back to a folder they lie in, and leaving out the folder exclude.
func listFolder(ctx context.Context, root, exclude string) (*listing, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", root)
	}
	l := &lister{ctx: ctx, root: root}
	if l.exclude, err = os.Stat(exclude); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if err := l.walk("", []fs.FileInfo{info}); err != nil {
		return nil, err
	}
	out := &l.out
	slices.Sort(out.classes)
	slices.SortFunc(out.files, func(a, b file) int { return cmp.Compare(a.key, b.key) })
	for i := range out.files {
		out.files[i].label = out.label(out.files[i].key)
	}
	return out, nil
}

type lister struct {
	ctx     context.Context
	root    string
	exclude fs.FileInfo // nil: nothing to leave out
	out     listing
}

// walk lists the folder with the given key, whose own path is above.
func (l *lister) walk(dir string, above []fs.FileInfo) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(l.root, filepath.FromSlash(dir)))
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			info, err := os.Stat(l.path(key))
			if err != nil {
				l.out.files = append(l.out.files, file{key: key, broken: true})
				continue
			}
			mode = info.Mode()
		}
		switch {
		case mode.IsRegular():
			l.out.files = append(l.out.files, file{key: key})
		case mode.IsDir():
			info, err := os.Stat(l.path(key))
			if err != nil {
				return err
			}
			if l.exclude != nil && os.SameFile(info, l.exclude) {
				continue
			}
			if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				l.out.skipped++
				continue
			}
			if dir == "" && utf8.ValidString(key) {
				l.out.classes = append(l.out.classes, key)
			}
			if err := l.walk(key, append(above, info)); err != nil {
				return err
			}
		default:
			l.out.skipped++ // a pipe would block whoever opens it
		}
	}
	return nil
}

func (l *lister) path(key string) string { return filepath.Join(l.root, filepath.FromSlash(key)) }

// label is the number of the class that a key belongs to, -1 for a file of
// the input folder itself.
func (l *listing) label(key string) int32 {
	class, _, found := strings.Cut(key, "/")
	if !found {
		return -1
	}
	i, found := slices.BinarySearch(l.classes, class)
	if !found {
		return -1
	}
	return int32(i)
}

// digest identifies the listing: two inputs with the same one have the same
// files and classes, by name.
func (l *listing) digest() string {
	h := sha256.New()
	for _, c := range l.classes {
		fmt.Fprintf(h, "%s/\x00", c)
	}
	for _, f := range l.files {
		fmt.Fprintf(h, "%s\x00", f.key)
	}
	return hex.EncodeToString(h.Sum(nil))
}

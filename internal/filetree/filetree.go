// Package filetree lists folders of files through links.
package filetree

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Kind says what a listed path is.
type Kind int

// The kinds of paths. Folders are walked, not listed.
const (
	File     Kind = iota // a regular file, or a link to one
	Dangling             // a link to nothing, or to what may not be seen
	Loop                 // a link back to a folder that it lies in
	Special              // a pipe, which would block whoever opens it, a socket or a device
)

// Walk calls visit for all that lies below the folder root, in the order of
// names folder by folder. Links are followed, root's own too. key is the path
// below root with slashes. The folder exclude, if not nil, is left out.
func Walk(ctx context.Context, root string, exclude fs.FileInfo, visit func(key string, kind Kind)) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	w := &walker{ctx, root, exclude, visit}
	return w.walk("", []fs.FileInfo{info})
}

type walker struct {
	ctx     context.Context
	root    string
	exclude fs.FileInfo
	visit   func(key string, kind Kind)
}

// walk lists the folder with the given key, whose own path is above.
func (w *walker) walk(dir string, above []fs.FileInfo) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(Path(w.root, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			info, err := os.Stat(Path(w.root, key))
			if err != nil {
				w.visit(key, Dangling)
				continue
			}
			mode = info.Mode()
		}
		switch {
		case mode.IsRegular():
			w.visit(key, File)
		case mode.IsDir():
			info, err := os.Stat(Path(w.root, key))
			if err != nil {
				return err
			}
			if w.exclude != nil && os.SameFile(info, w.exclude) {
				continue
			}
			if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				w.visit(key, Loop)
				continue
			}
			if err := w.walk(key, append(above, info)); err != nil {
				return err
			}
		default:
			w.visit(key, Special)
		}
	}
	return nil
}

// Path is where the file with the given key lies.
func Path(root, key string) string { return filepath.Join(root, filepath.FromSlash(key)) }

package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func init() {
	Register("list", Kind{
		Help:   "a text file with the path of an image on every line",
		Detect: func(in *Input) bool { return len(in.Head) > 0 && bytes.IndexByte(in.Head, 0) < 0 },
		Last:   true,
		Open: func(_ context.Context, in *Input) (Source, error) {
			return &listSource{Archive: in.Archive}, in.NeedArchive("list")
		},
	})
}

// listSource is a text file with the path of an image on every line.
type listSource struct {
	*Archive
	folder folderSource // that the keys are relative to
}

// List takes relative paths from the folder of the list. They are the keys as
// they stand there; if one of them is absolute or leads out of that folder, the
// keys are relative to the deepest folder that holds all files.
func (s *listSource) List(ctx context.Context) (*Contents, error) {
	home, err := filepath.Abs(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	var names []string
	local := true
	err = eachLine(io.NewSectionReader(s.Archive, 0, s.size), func(line []byte) error {
		name := filepath.Clean(filepath.FromSlash(string(line)))
		names = append(names, name)
		local = local && filepath.IsLocal(name)
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	out := &Contents{Skipped: int64(len(names))}
	slices.Sort(names)
	names = slices.Compact(names) // a path that stands there twice
	out.Skipped -= int64(len(names))
	s.folder.root = home
	if !local {
		for i, name := range names {
			if !filepath.IsAbs(name) {
				names[i] = filepath.Join(home, name)
			}
		}
		s.folder.root = commonFolder(names)
	}
	for _, name := range names {
		if !local {
			if name, err = filepath.Rel(s.folder.root, name); err != nil {
				return nil, fmt.Errorf("%s: %w", s.path, err)
			}
		}
		key := filepath.ToSlash(name)
		out.Add(File{Key: key}, FolderClass(key))
	}
	return out, nil
}

// commonFolder is the deepest folder that holds all of the absolute paths.
func commonFolder(names []string) string {
	dir := filepath.Dir(names[0])
	for _, name := range names {
		for !strings.HasPrefix(name, withSeparator(dir)) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
		}
	}
	return dir
}

func withSeparator(dir string) string {
	return strings.TrimSuffix(dir, string(filepath.Separator)) + string(filepath.Separator)
}

func (s *listSource) Open(f *File) (io.ReadCloser, int64, error) {
	// Opening a pipe would block.
	info, err := os.Stat(filepath.Join(s.folder.root, filepath.FromSlash(f.Key)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, &RejectError{Reason: "there is no such file: a line is a path and nothing else", Wanted: true}
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, &RejectError{Reason: "is not a file", Wanted: true}
	}
	return s.folder.Open(f)
}

// eachLine calls f for every line that is not blank, without its end and
// without the byte order mark that some editors put at the begin of a text.
func eachLine(r io.Reader, f func(line []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return fmt.Errorf("line %d: holds a zero byte: is no text in UTF-8", n)
		}
		if err := f(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

package ingest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withKind registers a kind for one test.
func withKind(t *testing.T, format string, k Kind) {
	t.Helper()
	before := registered()
	Register(format, k)
	t.Cleanup(func() {
		kindsMutex.Lock()
		defer kindsMutex.Unlock()
		kinds = before
	})
}

// nothing is a source without files.
type nothing struct {
	path    string
	archive *Archive
}

func (nothing) List(context.Context) (*Contents, error)  { return &Contents{}, nil }
func (nothing) Open(*File) (io.ReadCloser, int64, error) { return nil, 0, io.EOF }
func (nothing) Unchanged() error                         { return nil }
func (n nothing) Close() error {
	if n.archive == nil {
		return nil
	}
	return n.archive.Close()
}

func openNothing(_ context.Context, in *Input) (Source, error) {
	return nothing{in.Path, in.Archive}, nil
}

func TestRegister(t *testing.T) {
	for _, name := range []string{"tar", ""} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", name)
				}
			}()
			Register(name, Kind{})
		}()
	}
	want := []string{"folder", "list", "tar", "webdataset", "zip"}
	want = append(want, "swatches") // the example's
	slices.Sort(want)
	if got := Formats(); !slices.Equal(got, want) {
		t.Errorf("the formats are %v, want %v", got, want)
	}
	if err := Check("nosuch"); err == nil || !strings.Contains(err.Error(), strings.Join(want, ", ")) {
		t.Errorf("an unknown format gives %v", err)
	}
	if help := Help(); strings.Count(help, "\n") != len(want) || !strings.Contains(help, "  webdataset   a tar with NAME.cls") {
		t.Errorf("the help is\n%s", help)
	}
}

// TestKindsAreFoundByContent registers kinds that are asked before, and after,
// the built-in ones.
func TestKindsAreFoundByContent(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "x")
	if err := os.WriteFile(text, []byte("#odd\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	open := func(path, format string) (Source, error) {
		s, err := Open(t.Context(), path, Options{Format: format, Scratch: filepath.Join(dir, "scratch")})
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	if s, err := open(text, ""); err != nil {
		t.Fatal(err)
	} else if _, isList := s.(*listSource); !isList {
		t.Errorf("a text is opened as %T", s)
	}
	withKind(t, "odd", Kind{Detect: func(in *Input) bool { return strings.HasPrefix(string(in.Head), "#odd") }, Open: openNothing})
	withKind(t, "oddfolder", Kind{Detect: func(in *Input) bool { return in.Info.IsDir() && filepath.Base(in.Path) == "odd" }, Open: openNothing})
	withKind(t, "byname", Kind{Open: openNothing})
	withKind(t, "address", Kind{Unseen: true, Detect: func(*Input) bool { return true }, Open: openNothing})
	odd := filepath.Join(dir, "odd")
	if err := os.Mkdir(odd, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{text, ""}, {odd, ""}, {text, "byname"}, {odd, "byname"}, {"db://somewhere", "address"}} {
		if s, err := open(c[0], c[1]); err != nil || s.(nothing).path != c[0] {
			t.Errorf("%s as %q is %v, %v", c[0], c[1], s, err)
		}
	}
	if s, err := open(dir, ""); err != nil {
		t.Error(err)
	} else if _, isFolder := s.(*folderSource); !isFolder {
		t.Errorf("a folder is opened as %T", s)
	}
	for _, missing := range []string{filepath.Join(dir, "missing"), "db://somewhere"} {
		if _, err := open(missing, ""); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s gives %v", missing, err)
		}
	}
	for _, c := range []struct{ path, format, want string }{
		{text, "nosuch", "format \"nosuch\""},
		{odd, "zip", "is a folder and not a zip"},
		{text, "folder", "is not a folder"},
	} {
		if _, err := open(c.path, c.format); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s as %q gives %v, want %q", c.path, c.format, err, c.want)
		}
	}
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
)

// Source is one input.
type Source interface {
	// List returns the files of the input in any order, the same for the same
	// input.
	List(ctx context.Context) (*Contents, error)
	// Open returns a listed file and its exact length in bytes. It and the reader fail with a
	// *RejectError where the file itself is at fault, and with any other error
	// where that must end the run. Several goroutines call it.
	Open(f *File) (io.ReadCloser, int64, error)
	// Unchanged fails if the input is no longer the one that was listed.
	Unchanged() error
	Close() error
}

// Input is what a kind is asked to open.
type Input struct {
	Path    string
	Exclude string // folder that is being written to and no part of the input
	// Info is of the file or folder at Path; nil if there is none, for kinds that
	// are Unseen.
	Info fs.FileInfo
	// Archive is the input if it is a file, open and decompressed where it was
	// compressed; nil for others. The source that is opened closes it.
	Archive *Archive
	// Head are the first bytes of Archive, 512 where it has as many.
	Head []byte
}

// Kind is a kind of inputs.
type Kind struct {
	Help string // what it is, in a few words
	// Detect says whether an input is of the kind. nil: only if its name is given
	// as the format.
	Detect func(in *Input) bool
	// Last kinds are asked after the others, since they take almost anything.
	Last bool
	// Unseen kinds are of inputs that need not be files or folders, such as
	// addresses. They are opened by the name of their format alone.
	Unseen bool
	// Open opens an input, whatever Detect says of it. The source closes the
	// input's Archive; where Open fails, it is closed by who called.
	Open func(ctx context.Context, in *Input) (Source, error)
}

type namedKind struct {
	name string
	Kind
}

var (
	kindsMutex sync.Mutex
	kinds      []namedKind // as they are asked
)

// Register makes a kind known under the name of its format. A name registered
// twice panics.
func Register(format string, k Kind) {
	kindsMutex.Lock()
	defer kindsMutex.Unlock()
	if slices.ContainsFunc(kinds, func(n namedKind) bool { return n.name == format }) || format == "" {
		panic(fmt.Sprintf("ingest: %q is registered twice, or is no name", format))
	}
	at := len(kinds)
	for !k.Last && at > 0 && kinds[at-1].Last {
		at--
	}
	kinds = slices.Insert(kinds, at, namedKind{format, k})
}

func registered() []namedKind {
	kindsMutex.Lock()
	defer kindsMutex.Unlock()
	return slices.Clone(kinds)
}

// Formats lists the names of the registered kinds, in alphabetical order.
func Formats() []string {
	var names []string
	for _, k := range registered() {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

// Help says in a line for each what the registered kinds are.
func Help() string {
	lines := map[string]string{}
	for _, k := range registered() {
		lines[k.name] = k.Help
	}
	var b strings.Builder
	for _, name := range Formats() {
		fmt.Fprintf(&b, "  %-12s %s\n", name, lines[name])
	}
	return b.String()
}

// Check is an error unless a kind is registered under the format, which may be
// empty.
func Check(format string) error {
	if names := Formats(); format != "" && !slices.Contains(names, format) {
		return fmt.Errorf("format %q: use one of %s", format, strings.Join(names, ", "))
	}
	return nil
}

// Options say how an input is opened.
type Options struct {
	Format  string // "": what the input's content says
	Exclude string // see Input
	// Scratch is the file that a compressed input is decompressed to, through FS
	// (nil: the system's). It is removed when the source is closed.
	Scratch string
	FS      FS
}

// Open opens an input.
func Open(ctx context.Context, path string, o Options) (Source, error) {
	if err := Check(o.Format); err != nil {
		return nil, err
	}
	all := registered()
	if at := slices.IndexFunc(all, func(k namedKind) bool { return k.name == o.Format }); at >= 0 && all[at].Unseen {
		return all[at].Open(ctx, &Input{Path: path, Exclude: o.Exclude})
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	in := &Input{Path: path, Exclude: o.Exclude, Info: info}
	switch {
	case info.IsDir():
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is neither a file nor a folder", path)
	default:
		if in.Archive, err = openArchive(ctx, o.FS, path, o.Scratch); err != nil {
			return nil, err
		}
		in.Head = make([]byte, tarBlock)
		n, err := in.Archive.ReadAt(in.Head, 0)
		if err != nil && err != io.EOF {
			return nil, errors.Join(err, in.Archive.Close())
		}
		in.Head = in.Head[:n]
	}
	source, err := open(ctx, all, in, o.Format)
	if err != nil && in.Archive != nil {
		err = errors.Join(err, in.Archive.Close())
	}
	return source, err
}

// open finds the kind of an input and opens it.
func open(ctx context.Context, all []namedKind, in *Input, format string) (Source, error) {
	for _, k := range all {
		if k.Unseen || format != "" && k.name != format || format == "" && (k.Detect == nil || !k.Detect(in)) {
			continue
		}
		s, err := k.Open(ctx, in)
		if err != nil {
			return nil, err // not a nil pointer in an interface
		}
		return s, nil
	}
	if in.Archive == nil {
		return nil, fmt.Errorf("%s: no format takes such a folder (--format says what it is meant to be)", in.Path)
	}
	return nil, fmt.Errorf("%s: is no tar, zip or list of paths (--format says what it is meant to be)", in.Path)
}

// NeedArchive is an error if an input is a folder; kinds of files begin with it.
func (in *Input) NeedArchive(format string) error {
	if in.Archive == nil {
		return fmt.Errorf("%s is a folder and not a %s", in.Path, format)
	}
	return nil
}

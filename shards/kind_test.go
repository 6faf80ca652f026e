package shards

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/shards/ingest"
)

// faultySource has one good picture, and files whose Open fails.
type faultySource struct {
	picture []byte
	fail    map[string]error

	noLength bool
}

func (s faultySource) List(context.Context) (*ingest.Contents, error) {
	c := &ingest.Contents{}
	c.Add(ingest.File{Key: "a/good.png"}, "a")
	for key := range s.fail {
		c.Add(ingest.File{Key: key}, ingest.FolderClass(key))
	}
	return c, nil
}

func (s faultySource) Open(f *ingest.File) (io.ReadCloser, int64, error) {
	if s.noLength {
		return io.NopCloser(strings.NewReader("")), -1, nil
	}
	if err := s.fail[f.Key]; err != nil {
		return nil, 0, err
	}
	return io.NopCloser(strings.NewReader(string(s.picture))), int64(len(s.picture)), nil
}

func (faultySource) Unchanged() error { return nil }
func (faultySource) Close() error     { return nil }

var theFaultySource faultySource // of the kind "faulty"

func init() {
	ingest.Register("faulty", ingest.Kind{Unseen: true, Open: func(context.Context, *ingest.Input) (ingest.Source, error) { return theFaultySource, nil }})
}

// TestErrorsOfAKind holds the contract of errors: a RejectError concerns one
// file, any other ends the run.
func TestErrorsOfAKind(t *testing.T) {
	fatal := errors.New("the line is down")
	good := picture(t, "png", 3, 3, 1)
	for _, c := range []struct {
		name     string
		fail     map[string]error
		rejected int64
		skipped  int64
		want     error
	}{
		{"none", nil, 0, 0, nil},
		{"an image", map[string]error{"b/x.png": &ingest.RejectError{Reason: "is torn"}}, 1, 0, nil},
		{"no image by its name", map[string]error{"b/x.txt": &ingest.RejectError{Reason: "is torn"}}, 0, 1, nil},
		{"wanted whatever its name", map[string]error{"b/x.txt": &ingest.RejectError{Reason: "is torn", Wanted: true}}, 1, 0, nil},
		{"the input", map[string]error{"b/x.txt": fatal}, 0, 0, fatal},
	} {
		theFaultySource = faultySource{picture: good, fail: c.fail}
		out := filepath.Join(t.TempDir(), "out")
		_, report, err := Write(t.Context(), WriteConfig{In: "anything", Format: "faulty", Out: out, MaxBad: 1})
		if !errors.Is(err, c.want) || err == nil && (report.Rows != 1 || report.Rejected != c.rejected || report.Skipped != c.skipped) {
			t.Errorf("%s: %+v, %v", c.name, report, err)
		}
		list, err := os.ReadFile(filepath.Join(out, rejectedName))
		if (err == nil) != (c.rejected > 0) || err == nil && !strings.Contains(string(list), "is torn") {
			t.Errorf("%s: the rejected files are %q, %v", c.name, list, err)
		}
	}
}

func TestLengthsAreChecked(t *testing.T) {
	theFaultySource = faultySource{noLength: true}
	_, _, err := Write(t.Context(), WriteConfig{In: "x", Format: "faulty", Out: filepath.Join(t.TempDir(), "out")})
	if err == nil || !strings.Contains(err.Error(), "a/good.png: its source gives it a length of -1 bytes") {
		t.Errorf("a file of unknown length gives %v", err)
	}
}

// badListing lists what no source may.
type badListing struct {
	faultySource
	contents *ingest.Contents
}

func (b badListing) List(context.Context) (*ingest.Contents, error) { return b.contents, nil }

var listed *ingest.Contents // by the kind "bad listing"

func init() {
	ingest.Register("bad listing", ingest.Kind{Unseen: true, Open: func(context.Context, *ingest.Input) (ingest.Source, error) {
		return badListing{contents: listed}, nil
	}})
}

func TestListingsAreChecked(t *testing.T) {
	for _, c := range []*ingest.Contents{
		nil,
		{Files: []ingest.File{{Key: "a.png", Label: 1}}, Classes: []string{"a"}},
		{Files: []ingest.File{{Key: "a.png", Label: -2}}},
		{Files: []ingest.File{{Key: "a.png", Label: -1, Fault: 99}}},
	} {
		listed = c
		if _, _, err := Write(t.Context(), WriteConfig{In: "x", Format: "bad listing", Out: filepath.Join(t.TempDir(), "out")}); err == nil || !strings.Contains(err.Error(), "a source list") {
			t.Errorf("a listing of %+v gives %v", c, err)
		}
	}
}

package atomicfile_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/atomicfile/atomicfiletest"
)

// TestPowerCuts writes a file over another one, and cuts the power after every
// operation: the file is the old one, or the new one, and the new one once the
// writer has returned. Writers that leave something out are caught, or nothing
// would be tested.
func TestPowerCuts(t *testing.T) {
	const old, long = "old content", 10_000 // more than a page
	fresh := strings.Repeat("new content ", long/12)
	writers := map[string]func(fsys atomicfile.FS, path string) error{
		"right": func(fsys atomicfile.FS, path string) error { return atomicfile.WriteFileOn(fsys, path, []byte(fresh)) },
		"in place": func(fsys atomicfile.FS, path string) error {
			f, err := fsys.Create(path)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(fresh))
			return errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(filepath.Dir(path)))
		},
		"content not flushed": func(fsys atomicfile.FS, path string) error {
			f, err := fsys.Create(path + ".tmp")
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(fresh))
			return errors.Join(err, f.Close(), fsys.Rename(path+".tmp", path), fsys.SyncDir(filepath.Dir(path)))
		},
		"folder not flushed": func(fsys atomicfile.FS, path string) error {
			f, err := fsys.Create(path + ".tmp")
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(fresh))
			return errors.Join(err, f.Sync(), f.Close(), fsys.Rename(path+".tmp", path))
		},
		"removed before": func(fsys atomicfile.FS, path string) error {
			return errors.Join(fsys.Remove(path), fsys.SyncDir(filepath.Dir(path)), atomicfile.WriteFileOn(fsys, path, []byte(fresh)))
		},
		"flushed too early": func(fsys atomicfile.FS, path string) error {
			f, err := fsys.Create(path + ".tmp")
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(fresh[:long/2]))
			err = errors.Join(err, f.Sync())
			_, writeErr := f.Write([]byte(fresh[long/2:]))
			return errors.Join(err, writeErr, f.Close(), fsys.Rename(path+".tmp", path), fsys.SyncDir(filepath.Dir(path)))
		},
	}
	for name, write := range writers {
		root := t.TempDir()
		path := filepath.Join(root, "file")
		if err := os.WriteFile(path, []byte(old), 0o666); err != nil {
			t.Fatal(err)
		}
		disk, err := atomicfiletest.NewDisk(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(disk, path); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		last := len(disk.Operations())
		wrong, seen := 0, map[string]bool{}
		for n := range last + 1 {
			for range 40 {
				dir := filepath.Join(t.TempDir(), "after")
				if err := disk.Crash(n, rng, dir); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join(dir, "file"))
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				if string(got) != fresh && (string(got) != old || n == last) {
					wrong++
				}
				seen[string(got)] = true
			}
		}
		if (wrong > 0) != (name != "right") {
			t.Errorf("%s: %d wrong states after %v", name, wrong, disk.Operations())
		}
		if !seen[old] || !seen[fresh] {
			t.Errorf("%s: the old or the new file was never seen", name)
		}
	}
}

// TestMakeDir makes a folder that is new, or that somebody made who was killed
// before it was certain to stay: it does, whatever else the power cut leaves.
func TestMakeDir(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for before, makes := range map[string][]func(fsys atomicfile.FS, path string) error{
		"nothing":       {atomicfile.MakeDir},
		"a folder":      {atomicfile.FS.MkdirAll, atomicfile.MakeDir},
		"no MakeDir":    {atomicfile.FS.MkdirAll},
		"MakeDir twice": {atomicfile.MakeDir, atomicfile.MakeDir},
	} {
		root := t.TempDir()
		disk, err := atomicfiletest.NewDisk(root)
		if err != nil {
			t.Fatal(err)
		}
		path := "new"
		if before != "a folder" {
			path = filepath.Join("new", "deep", "run")
		}
		for _, make := range makes {
			if err := make(disk, filepath.Join(root, path)); err != nil {
				t.Fatal(err)
			}
		}
		lost := 0
		for range 40 {
			dir := filepath.Join(t.TempDir(), "after")
			if err := disk.Crash(len(disk.Operations()), rng, dir); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
				lost++
			}
		}
		if (lost > 0) != (before == "no MakeDir") {
			t.Errorf("%s: lost %d times of 40", before, lost)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.MakeDir(atomicfile.OS, file); err == nil {
		t.Error("a file passes for a folder")
	}
}

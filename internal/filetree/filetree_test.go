package filetree

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWalkFollowsLinks lists a tree with links to files, to folders, to
// nothing and to the folder above, through a link to its root.
func TestWalkFollowsLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows lets only privileged users make links, and the tree is made of them")
	}
	dir := t.TempDir()
	for _, name := range []string{"tree/b/file", "tree/out/left", "elsewhere/far"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"root": "tree", "tree/a": "b/file", "tree/c": "../elsewhere", "tree/b/gone": "nowhere", "tree/b/up": "..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, filepath.FromSlash(link))); err != nil {
			t.Fatal(err)
		}
	}
	exclude, err := os.Stat(filepath.Join(dir, "tree", "out"))
	if err != nil {
		t.Fatal(err)
	}

	type entry struct {
		Key  string
		Kind Kind
	}
	var got []entry
	if err := Walk(t.Context(), filepath.Join(dir, "root"), exclude, func(key string, kind Kind) {
		got = append(got, entry{key, kind})
	}); err != nil {
		t.Fatal(err)
	}
	want := []entry{{"a", File}, {"b/file", File}, {"b/gone", Dangling}, {"b/up", Loop}, {"c/far", File}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

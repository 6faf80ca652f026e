package shards

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedPython runs the Python of docs/shard-format.md with the
// interpreter that PIXPRO_PYTHON names, which has pyarrow (make interop).
func TestDocumentedPython(t *testing.T) {
	python := os.Getenv("PIXPRO_PYTHON")
	if python == "" {
		t.Skip("PIXPRO_PYTHON names no Python with pyarrow: make interop, a part of continuous integration, installs one and runs this")
	}
	doc, err := os.ReadFile(filepath.Join("..", "docs", "shard-format.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(doc), "```python\n")
	code, _, found := strings.Cut(code, "```")
	if !found {
		t.Fatal("there is no Python in the document")
	}

	dir := t.TempDir()
	in := classTree(t, 150)
	m, _, err := Write(t.Context(), WriteConfig{In: in, Out: filepath.Join(dir, "shards"), ShardSize: 16 << 10, MaxBad: 1})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", code)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 150 || m.Rows != 150 {
		t.Fatalf("Python reads %d rows of %d", len(lines), m.Rows)
	}
	for _, line := range lines {
		key, _, _ := strings.Cut(line, "\t")
		data, err := os.ReadFile(filepath.Join(in, filepath.FromSlash(key)))
		if err != nil {
			t.Fatal(err)
		}
		class, name, _ := strings.Cut(key, "/")
		label := slices.Index(m.Classes, class)
		format := strings.TrimPrefix(filepath.Ext(name), ".")
		if want := fmt.Sprintf("%s\t%d\t%s\t%x", key, label, format, sha256.Sum256(data)); line != want {
			t.Errorf("Python reads %q, want %q", line, want)
		}
	}
}

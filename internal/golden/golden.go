// Package golden finds the reference cases that tests compare with.
package golden

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Path returns the path of a reference file below the golden folder: the one
// that PIXPRO_GOLDEN names, by default testdata/golden of this module. A
// missing file fails the test: a golden case is never skipped.
func Path(tb testing.TB, elem ...string) string {
	tb.Helper()
	root := os.Getenv("PIXPRO_GOLDEN")
	if root == "" {
		_, file, _, _ := runtime.Caller(0)
		root = filepath.Join(filepath.Dir(file), "..", "..", "testdata", "golden")
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("golden case: %v", err)
	}
	return path
}

// JSON decodes a reference file into v.
func JSON(tb testing.TB, v any, elem ...string) {
	tb.Helper()
	data, err := os.ReadFile(Path(tb, elem...))
	if err != nil {
		tb.Fatalf("golden case: %v", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		tb.Fatalf("golden case %v: %v", elem, err)
	}
}

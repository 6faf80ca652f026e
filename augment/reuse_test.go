package augment

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dependencies lists the packages outside the standard library that a package
// is built from.
func dependencies(t *testing.T, dir string, pkg string) []string {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command, which lists the packages, is not on PATH: this test program runs away from the source")
	}
	cmd := exec.Command(goTool, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list in %s: %v", dir, err)
	}
	return strings.Fields(string(out))
}

// TestReuseAlone: this package needs the standard library and, to know the processor,
// the part of it that is published apart; decoding no more
// than image formats and a way to open libjpeg-turbo; so does the example, which
// is a module of its own.
func TestReuseAlone(t *testing.T) {
	t.Parallel()
	const module = "github.com/seed-436d2970/pixpro/"
	alone := []string{module + "augment", module + "internal/cells", module + "internal/cpu", "golang.org/x/sys/cpu"}
	check := func(dir, pkg string, allowed func(string) bool) {
		t.Helper()
		for _, dep := range dependencies(t, dir, pkg) {
			if !allowed(dep) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
	check(".", ".", func(dep string) bool { return slices.Contains(alone, dep) })
	decoding := func(dep string) bool {
		return slices.Contains(alone, dep) || dep == module+"augment/decode" || dep == module+"internal/dl" || dep == module+"examples/augment" ||
			strings.HasPrefix(dep, "golang.org/x/image/") || strings.HasPrefix(dep, "github.com/ebitengine/purego")
	}
	check(".", "./decode", decoding)
	check(filepath.Join("..", "examples", "augment"), ".", decoding)
}

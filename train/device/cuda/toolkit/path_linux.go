package toolkit

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/dl"
)

// pathOf is the file that an open library was loaded from, by the process's
// memory map.
func pathOf(l *dl.Library) string {
	if filepath.IsAbs(l.Name) {
		return l.Name
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return l.Name
	}
	defer f.Close()
	// The name that was asked for is most often a link to the file that is mapped.
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !strings.Contains(fields[5], ".so") {
			continue
		}
		link := filepath.Join(filepath.Dir(fields[5]), l.Name)
		if path, err := filepath.EvalSymlinks(link); err == nil && path == fields[5] {
			return link
		}
	}
	return l.Name
}

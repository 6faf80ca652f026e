// Package version is where the product's version stands.
package version

import (
	"fmt"
	"runtime/debug"
	"sync"

	"golang.org/x/mod/semver"
)

// Number is the version that this is, or that comes next; see CHANGELOG.md.
const Number = "0.2.0-dev"

// String is the version with the revision that the program was built from,
// where the build knows it: 0.2.0-dev+3f2a91c0b7de, with .dirty behind it for
// sources that differ.
var String = sync.OnceValue(func() string {
	revision, dirty := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				revision = "+" + s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = ".dirty"
			}
		}
	}
	if revision == "" {
		return Number
	}
	return Number + revision + dirty
})

// IsLater says whether a version is a later one than this. What is no version
// is none.
func IsLater(v string) bool { return semver.Compare("v"+v, "v"+Number) > 0 }

// Newer is the error about a file of a format that only later versions read.
// writer is the version that wrote it, "" if the file does not say.
func Newer(format, reads int, writer string) error {
	by, use := "", "a later version"
	if writer != "" {
		by, use = ", written by PixPro "+writer, "PixPro "+writer+" or later"
	}
	return fmt.Errorf("format %d%s: this is PixPro %s, which reads format %d: use %s", format, by, Number, reads, use)
}

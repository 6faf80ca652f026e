// Package version is where the product's version stands.
package version

import (
	"runtime/debug"
	"sync"
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

//go:build !linux

package toolkit

import "github.com/seed-436d2970/pixpro/internal/dl"

// pathOf is the name that an open library was found by.
func pathOf(l *dl.Library) string { return l.Name }

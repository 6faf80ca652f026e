//go:build !((linux || darwin) && !android)

// Package dl opens shared libraries at run time without cgo.
package dl

import "errors"

// Library is an open shared library.
type Library struct{ Name string }

var errUnsupported = errors.New("shared libraries cannot be opened at run time on this platform")

// Open fails.
func Open(names ...string) (*Library, error) { return nil, errUnsupported }

// Symbol fails.
func (l *Library) Symbol(name string) (uintptr, error) { return 0, errUnsupported }

// Symbols fails.
func (l *Library) Symbols(functions map[string]*uintptr) error { return errUnsupported }

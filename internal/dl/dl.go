//go:build (linux || darwin) && !android

// Package dl opens shared libraries at run time without cgo.
package dl

import (
	"errors"
	"fmt"

	"github.com/ebitengine/purego"
)

// Library is an open shared library; it stays open until the process ends.
type Library struct {
	Name   string
	handle uintptr
}

// Open opens the first of the named libraries that can be: bare names are
// looked up as the dynamic linker does.
func Open(names ...string) (*Library, error) {
	var errs []error
	for _, name := range names {
		handle, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err == nil {
			return &Library{name, handle}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Symbol returns the address of a function.
func (l *Library) Symbol(name string) (uintptr, error) {
	addr, err := purego.Dlsym(l.handle, name)
	if err != nil {
		return 0, fmt.Errorf("%s has no %s: %w", l.Name, name, err)
	}
	return addr, nil
}

// Symbols looks several functions up, all of which must be there, and sets where
// their addresses go.
func (l *Library) Symbols(functions map[string]*uintptr) error {
	for name, at := range functions {
		var err error
		if *at, err = l.Symbol(name); err != nil {
			return err
		}
	}
	return nil
}

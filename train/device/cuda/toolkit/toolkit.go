// Package toolkit finds the libraries of NVIDIA's CUDA toolkit at run time, of
// whichever release there is that the driver takes.
package toolkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/dl"
)

// Variable names folders, separated by colons, that are searched before all
// others.
const Variable = "PIXPRO_CUDA_LIB"

// Kind is one of the toolkit's libraries.
type Kind struct {
	Name    string
	sonames map[int][]string // by CUDA's major version, in the order to try
	beside  string           // a pattern of what it needs and may not find itself
	pip     map[int]string   // the package that has it
}

// The libraries. NVRTC 13 of pip's packages does not find its built-in
// functions, which must be open before.
var (
	NVRTC = Kind{
		Name:    "NVRTC",
		sonames: map[int][]string{13: {"libnvrtc.so.13"}, 12: {"libnvrtc.so.12"}, 11: {"libnvrtc.so.11.2", "libnvrtc.so.11.1", "libnvrtc.so.11.0"}},
		beside:  "libnvrtc-builtins.so.*",
		pip:     map[int]string{13: "nvidia-cuda-nvrtc", 12: "nvidia-cuda-nvrtc-cu12", 11: "nvidia-cuda-nvrtc-cu11"},
	}
	CuBLAS = Kind{
		Name:    "cuBLAS",
		sonames: map[int][]string{13: {"libcublas.so.13"}, 12: {"libcublas.so.12"}, 11: {"libcublas.so.11"}},
		pip:     map[int]string{13: "nvidia-cublas", 12: "nvidia-cublas-cu12", 11: "nvidia-cublas-cu11"},
	}
	// CuDNN 9 has one name for CUDA 12 and 13.
	CuDNN = Kind{
		Name:    "cuDNN",
		sonames: map[int][]string{13: {"libcudnn.so.9"}, 12: {"libcudnn.so.9"}},
		pip:     map[int]string{13: "nvidia-cudnn-cu13", 12: "nvidia-cudnn-cu12"},
	}
)

const newest, oldest = 13, 11 // major versions of CUDA that are known

// Library is an open library.
type Library struct {
	*dl.Library
	// Path is the file, or the bare name if the system does not tell where the
	// loader found it.
	Path string
}

// NotFoundError is the error of a library that is nowhere.
type NotFoundError struct {
	Kind   Kind
	Driver int      // the newest CUDA that the driver knows, as it tells it
	Tried  []string // names, places, and what stood against files that are there
}

func (e *NotFoundError) Error() string {
	remedy := "update the driver to one for CUDA 11 or later"
	if p := e.Kind.pip[min(newest, e.Driver/1000)]; p != "" {
		remedy = fmt.Sprintf("install it (python3 -m pip install %s), or name its folder in %s", p, Variable)
	}
	return fmt.Sprintf("no %s for a driver of CUDA %s: tried %s; %s", e.Kind.Name, Version(e.Driver), strings.Join(e.Tried, "; "), remedy)
}

// Version writes a version of CUDA as major and minor: 12040 is 12.4.
func Version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// Open opens the library for a driver that knows CUDA up to a version, as
// cuDriverGetVersion tells it. The folders of PIXPRO_CUDA_LIB come first; then,
// for each major version from the driver's on downwards, where the dynamic
// loader looks, CUDA_HOME, /usr/local/cuda*, and pip's packages of VIRTUAL_ENV
// and of the Python on PATH.
func (k Kind) Open(driver int) (*Library, error) {
	return k.search(driver, system{getenv: os.Getenv, lookPath: exec.LookPath, root: "/"}, k.OpenFile)
}

// OpenFile opens the library at a path, or the one that the loader finds under a
// bare name.
func (k Kind) OpenFile(name string) (*Library, error) {
	if filepath.IsAbs(name) && k.beside != "" {
		needed, _ := filepath.Glob(filepath.Join(filepath.Dir(name), k.beside)) // the pattern is sound
		for _, path := range needed {
			_, _ = dl.Open(path) // of several releases one fits; without any, compiling says so
		}
	}
	l, err := dl.Open(name)
	if err != nil {
		return nil, err
	}
	return &Library{l, pathOf(l)}, nil
}

// system is what a search asks the system.
type system struct {
	getenv   func(string) string
	lookPath func(string) (string, error)
	root     string
}

// place is where libraries may be.
type place struct {
	name    string
	folders []string // none: the loader's own search
}

func (k Kind) search(driver int, s system, open func(name string) (*Library, error)) (*Library, error) {
	failed := &NotFoundError{Kind: k, Driver: driver}
	try := func(p place, major int) *Library {
		for _, soname := range k.sonames[major] {
			for _, folder := range p.folders {
				path := filepath.Join(folder, soname)
				if _, err := os.Stat(path); err != nil {
					continue
				}
				l, err := open(path)
				if err == nil {
					return l
				}
				failed.Tried = append(failed.Tried, err.Error())
			}
			if p.folders == nil {
				if l, err := open(soname); err == nil {
					return l
				}
			}
		}
		return nil
	}
	var named place
	for _, folder := range filepath.SplitList(s.getenv(Variable)) {
		if folder != "" {
			named.folders = append(named.folders, folder)
		}
	}
	places := s.places()
	var names []string
	for major := min(newest, driver/1000); major >= oldest; major-- {
		names = append(names, k.sonames[major]...)
		if named.folders == nil {
			continue
		}
		if l := try(named, major); l != nil {
			return l, nil
		}
	}
	for major := min(newest, driver/1000); major >= oldest; major-- {
		for _, p := range places {
			if l := try(p, major); l != nil {
				return l, nil
			}
		}
	}
	if names == nil {
		names = []string{"nothing, since CUDA 11 is the oldest that is known,"}
	}
	where := []string{Variable + " (not set)"}
	if named.folders != nil {
		where = []string{Variable + " (" + strings.Join(named.folders, ", ") + ")"}
	}
	for _, p := range places {
		text := p.name
		if p.folders != nil {
			text += " (" + strings.Join(p.folders, ", ") + ")"
		}
		where = append(where, text)
	}
	failed.Tried = slices.Insert(failed.Tried, 0, strings.Join(names, ", ")+" in "+strings.Join(where, ", "))
	for major := newest; major > driver/1000; major-- {
		for _, soname := range k.sonames[major] {
			for _, p := range append([]place{named}, places...) {
				for _, folder := range p.folders {
					path := filepath.Join(folder, soname)
					if _, err := os.Stat(path); err == nil {
						failed.Tried = append(failed.Tried, path+" needs a newer driver")
					}
				}
			}
		}
	}
	return nil, failed
}

// places are where toolkits are installed, in the order to look.
func (s system) places() []place {
	list := []place{{name: "the loader's paths"}}
	add := func(name string, folders []string) {
		if len(folders) > 0 {
			list = append(list, place{name, folders})
		}
	}
	glob := func(parts ...string) []string {
		found, _ := filepath.Glob(filepath.Join(parts...))
		return found
	}
	toolkit := func(home string) []string {
		return append(append(glob(home, "lib64"), glob(home, "targets", "*", "lib")...), glob(home, "lib")...)
	}
	if home := s.getenv("CUDA_HOME"); home != "" {
		add("CUDA_HOME", toolkit(home))
	}
	var installed []string
	homes := glob(s.root, "usr", "local", "cuda*")
	slices.Reverse(homes) // newer ones first
	for _, home := range homes {
		installed = append(installed, toolkit(home)...)
	}
	add("/usr/local/cuda*", installed)

	var prefixes []string
	if env := s.getenv("VIRTUAL_ENV"); env != "" {
		prefixes = append(prefixes, env)
	}
	for _, python := range []string{"python3", "python"} {
		path, err := s.lookPath(python)
		if err != nil {
			continue
		}
		prefixes = append(prefixes, filepath.Dir(filepath.Dir(path)))
		if real, err := filepath.EvalSymlinks(path); err == nil { // the Python that a virtual environment is of
			prefixes = append(prefixes, filepath.Dir(filepath.Dir(real)))
		}
	}
	if home := s.getenv("HOME"); home != "" {
		prefixes = append(prefixes, filepath.Join(home, ".local"))
	}
	var packages []string
	for _, prefix := range prefixes {
		for _, lib := range []string{"lib", "lib64", "local/lib"} {
			for _, site := range []string{"site-packages", "dist-packages"} {
				for _, folder := range glob(prefix, lib, "python3*", site, "nvidia", "*", "lib") {
					if !slices.Contains(packages, folder) {
						packages = append(packages, folder)
					}
				}
			}
		}
	}
	add("pip's packages", packages)
	return list
}

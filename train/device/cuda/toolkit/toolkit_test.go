//go:build unix

package toolkit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a file system with libraries, which are empty files, and what the
// dynamic loader finds by bare names.
type machine struct {
	t      *testing.T
	root   string
	env    map[string]string
	python string
	loader []string
	broken string // a library that cannot be opened
}

func newMachine(t *testing.T, files ...string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), env: map[string]string{}}
	for _, file := range files {
		path := filepath.Join(m.root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// find searches and returns the library's path below the root, or its bare name.
func (m *machine) find(k Kind, driver int) (string, error) {
	m.t.Helper()
	s := system{root: m.root, getenv: func(name string) string { return m.env[name] }, lookPath: func(name string) (string, error) {
		if name == "python3" && m.python != "" {
			return filepath.Join(m.root, m.python), nil
		}
		return "", fs.ErrNotExist
	}}
	l, err := k.search(driver, s, func(name string) (*Library, error) {
		if !filepath.IsAbs(name) {
			for _, known := range m.loader {
				if name == known {
					return &Library{Path: name}, nil
				}
			}
			return nil, errors.New(name + ": cannot open shared object file")
		}
		path := strings.TrimPrefix(name, m.root+"/")
		if path == m.broken {
			return nil, errors.New(path + ": wrong ELF class")
		}
		return &Library{Path: path}, nil
	})
	if err != nil {
		return "", err
	}
	return l.Path, nil
}

func TestOrder(t *testing.T) {
	const (
		named   = "opt/cuda/libcublas.so.12"
		home    = "home/cuda/lib64/libcublas.so.12"
		local   = "usr/local/cuda-12.4/lib64/libcublas.so.12"
		older   = "usr/local/cuda-11.8/targets/x86_64-linux/lib/libcublas.so.11"
		venv12  = "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublas.so.12"
		venv13  = "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13"
		python  = "conda/lib/python3.11/site-packages/nvidia/cublas/lib/libcublas.so.12"
		system_ = "usr/local/lib/python3.11/dist-packages/nvidia/cublas/lib/libcublas.so.12"
	)
	// What is there, and in which order it is found as one after the other goes.
	order := func(driver int, loader []string, want ...string) {
		t.Helper()
		files := []string{named, home, local, older, venv12, venv13, python, system_, "conda/bin/python3.11", "usr/bin/python"}
		m := newMachine(t, files...)
		m.loader = loader
		m.env = map[string]string{Variable: filepath.Join(m.root, "nowhere") + ":" + filepath.Join(m.root, "opt/cuda"), "CUDA_HOME": filepath.Join(m.root, "home/cuda"), "VIRTUAL_ENV": filepath.Join(m.root, "venv")}
		m.python = "conda/bin/python3.11"
		var got []string
		for {
			path, err := m.find(CuBLAS, driver)
			if err != nil {
				var none *NotFoundError
				if !errors.As(err, &none) {
					t.Fatal(err)
				}
				break
			}
			got = append(got, path)
			if filepath.Base(path) == path {
				m.loader = m.loader[:0]
			} else if err := os.Remove(filepath.Join(m.root, path)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("driver %d: -want +got\n%s", driver, diff)
		}
	}
	order(13000, []string{"libcublas.so.12"}, named, venv13, "libcublas.so.12", home, local, venv12, python, older)
	order(12040, []string{"libcublas.so.12"}, named, "libcublas.so.12", home, local, venv12, python, older)
	order(11080, nil, older)
	order(14000, nil, named, venv13, home, local, venv12, python, older)
}

// TestPythons finds the packages of the Python on PATH, through the link of a
// virtual environment too, and Debian's.
func TestPythons(t *testing.T) {
	m := newMachine(t, "usr/bin/python3.12", "usr/local/lib/python3.12/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
	if err := errors.Join(os.MkdirAll(filepath.Join(m.root, "env/bin"), 0o777), os.Symlink(filepath.Join(m.root, "usr/bin/python3.12"), filepath.Join(m.root, "env/bin/python3"))); err != nil {
		t.Fatal(err)
	}
	m.python = "env/bin/python3"
	if path, err := m.find(NVRTC, 13000); err != nil || !strings.HasSuffix(path, "cuda_nvrtc/lib/libnvrtc.so.12") {
		t.Errorf("found %q, %v", path, err)
	}
}

func TestNVRTCNames(t *testing.T) {
	m := newMachine(t)
	m.loader = []string{"libnvrtc.so.11.1", "libnvrtc.so.11.2"}
	if path, err := m.find(NVRTC, 13000); err != nil || path != "libnvrtc.so.11.2" {
		t.Errorf("found %q, %v", path, err)
	}
}

// TestNotFound reads what is said of libraries that are nowhere, too new, or
// cannot be opened.
func TestNotFound(t *testing.T) {
	const newer = "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13"
	m := newMachine(t, newer, "opt/libcublas.so.12")
	m.env = map[string]string{"VIRTUAL_ENV": filepath.Join(m.root, "venv"), Variable: filepath.Join(m.root, "opt")}
	m.broken = "opt/libcublas.so.12"
	_, err := m.find(CuBLAS, 12040)
	var none *NotFoundError
	if !errors.As(err, &none) {
		t.Fatalf("the error is %v", err)
	}
	for _, want := range []string{
		"no cuBLAS for a driver of CUDA 12.4", "libcublas.so.12, libcublas.so.11 in " + Variable, "the loader's paths", "pip's packages",
		"opt/libcublas.so.12: wrong ELF class", newer + " needs a newer driver", "pip install nvidia-cublas-cu12",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if _, err := m.find(CuBLAS, 10020); err == nil || !strings.Contains(err.Error(), "update the driver") {
		t.Errorf("a driver of CUDA 10.2: %v", err)
	}
}

//go:build linux

// Package nvrtc compiles CUDA C at run time by NVIDIA's compiler library.
package nvrtc

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
)

// Status is an error of NVRTC.
type Status int32

// InvalidOption is, among others, the status of an architecture that NVRTC does
// not know.
const InvalidOption Status = 5

func (s Status) Error() string {
	name, ok := map[Status]string{
		1: "OUT_OF_MEMORY", 2: "PROGRAM_CREATION_FAILURE", 3: "INVALID_INPUT", 4: "INVALID_PROGRAM",
		InvalidOption: "INVALID_OPTION", 6: "COMPILATION", 7: "BUILTIN_OPERATION_FAILURE", 11: "INTERNAL_ERROR",
	}[s]
	if !ok {
		return fmt.Sprintf("NVRTC status %d", int32(s))
	}
	return "NVRTC status " + name
}

// Compiler is an open NVRTC.
type Compiler struct {
	Library      *toolkit.Library
	Major, Minor int

	version, create, destroy, compile, ptxSize, ptx, logSize, log uintptr
	cubinSize, cubin                                              uintptr // 0 before 11.1
}

// Open opens the NVRTC that goes with a driver, see toolkit.Kind.Open.
func Open(driver int) (*Compiler, error) {
	l, err := toolkit.NVRTC.Open(driver)
	if err != nil {
		return nil, err
	}
	return New(l)
}

// New takes an open library.
func New(l *toolkit.Library) (*Compiler, error) {
	c := &Compiler{Library: l}
	err := l.Symbols(map[string]*uintptr{
		"nvrtcVersion": &c.version, "nvrtcCreateProgram": &c.create, "nvrtcDestroyProgram": &c.destroy, "nvrtcCompileProgram": &c.compile,
		"nvrtcGetPTXSize": &c.ptxSize, "nvrtcGetPTX": &c.ptx, "nvrtcGetProgramLogSize": &c.logSize, "nvrtcGetProgramLog": &c.log,
	})
	if err != nil {
		return nil, err
	}
	if l.Symbols(map[string]*uintptr{"nvrtcGetCUBINSize": &c.cubinSize, "nvrtcGetCUBIN": &c.cubin}) != nil {
		c.cubin = 0
	}
	var major, minor int32
	if err := call(c.version, uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor))); err != nil {
		return nil, fmt.Errorf("version of NVRTC: %w", err)
	}
	c.Major, c.Minor = int(major), int(minor)
	return c, nil
}

//go:uintptrescapes
func call(function uintptr, args ...uintptr) error {
	if status, _, _ := purego.SyscallN(function, args...); int32(status) != 0 {
		return Status(int32(status))
	}
	return nil
}

// Version is major and minor.
func (c *Compiler) Version() string { return fmt.Sprintf("%d.%d", c.Major, c.Minor) }

// Machine says whether the compiler makes code for a real architecture.
func (c *Compiler) Machine() bool { return c.cubin != 0 }

// Result is what a text was compiled to.
type Result struct {
	// Code is what the driver loads: a CUBIN of one architecture, of
	// --gpu-architecture=sm_XX; else PTX.
	Code []byte
	Log  string // what the compiler said
}

// Compile compiles a text. An error has what the compiler said.
func (c *Compiler) Compile(source, name string, options ...string) (result Result, err error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	text := func(s string) *byte {
		b := append([]byte(s), 0)
		pin.Pin(&b[0])
		return &b[0]
	}
	var program uintptr
	pin.Pin(&program)
	at := uintptr(unsafe.Pointer(&program))
	if err := call(c.create, at, uintptr(unsafe.Pointer(text(source))), uintptr(unsafe.Pointer(text(name))), 0, 0, 0); err != nil {
		return result, err
	}
	defer func() {
		if e := call(c.destroy, at); err == nil {
			err = e
		}
	}()
	list := make([]*byte, len(options)+1) // never empty
	for i, o := range options {
		list[i] = text(o)
	}
	pin.Pin(&list[0])
	status := call(c.compile, program, uintptr(len(options)), uintptr(unsafe.Pointer(&list[0])))
	log, logErr := get(program, c.logSize, c.log)
	result.Log = strings.TrimSpace(string(bytes.TrimRight(log, "\x00")))
	if status != nil {
		if result.Log != "" {
			return result, fmt.Errorf("%w\n%s", status, result.Log)
		}
		return result, status
	}
	if logErr != nil {
		return result, logErr
	}
	if c.Machine() {
		if result.Code, err = get(program, c.cubinSize, c.cubin); err != nil || len(result.Code) > 0 {
			return result, err
		}
	}
	result.Code, err = get(program, c.ptxSize, c.ptx)
	result.Code = bytes.TrimRight(result.Code, "\x00")
	return result, err
}

// get reads one of a program's results.
func get(program, size, content uintptr) ([]byte, error) {
	var n uintptr
	if err := call(size, program, uintptr(unsafe.Pointer(&n))); err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	return b, call(content, program, uintptr(unsafe.Pointer(&b[0])))
}

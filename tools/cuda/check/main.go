//go:build linux

// Command check compiles the CUDA kernels by NVRTC and ptxas for several
// architectures, without a card, and fails if one spills registers or takes
// more shared memory than a launch may have. It holds docs/cuda.md to the table
// of what they take, or writes it there.
//
//	LD_LIBRARY_PATH=… go run ./tools/cuda/check [-ptxas ptxas] [-write]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

const (
	kernels  = "train/device/cuda/kernels.cu"
	document = "docs/cuda.md"
	begin    = "<!-- table of kernels: written by make cuda-check WRITE=1 -->\n"
	end      = "<!-- end of the table of kernels -->\n"

	// sharedLimit is the static shared memory that a block may have, in bytes.
	sharedLimit = 48 << 10
	// registerFile is what the threads of a block share, in registers.
	registerFile = 65536
	// blockThreads is THREADS of kernels.cu.
	blockThreads = 256
)

var architectures = []int{70, 80, 90}

// builds are the two ways that the device compiles the kernels.
var builds = []struct {
	name    string
	options []string
}{
	{"float32", nil},
	{"bf16", []string{"-DPIXPRO_BF16"}},
}

// usage is what ptxas says of a kernel.
type usage struct{ registers, shared, stack, spilled int }

func main() {
	ptxas := flag.String("ptxas", "ptxas", "program")
	write := flag.Bool("write", false, "write the table to "+document)
	flag.Parse()
	if err := check(*ptxas, *write); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func check(ptxas string, write bool) error {
	source, err := os.ReadFile(kernels)
	if err != nil {
		return err
	}
	names := kernelNames(string(source))
	compiler, err := openNVRTC()
	if err != nil {
		return err
	}
	fmt.Printf("NVRTC %s, %d kernels, %d architectures\n", compiler.version, len(names), len(architectures))
	// of[build][architecture][kernel]
	of := make([]map[int]map[string]usage, len(builds))
	var found []error
	for i, build := range builds {
		of[i] = map[int]map[string]usage{}
		for _, architecture := range architectures {
			options := append([]string{fmt.Sprintf("--gpu-architecture=compute_%d", architecture), "--std=c++14"}, build.options...)
			code, err := compiler.compile(string(source), options)
			if err != nil {
				return fmt.Errorf("%s by NVRTC %s with %s: %w", kernels, compiler.version, strings.Join(options, " "), err)
			}
			u, err := assemble(ptxas, code, architecture)
			if err != nil {
				return err
			}
			of[i][architecture] = u
			found = append(found, faults(names, build.name, architecture, u)...)
		}
	}
	t := table(names, of)
	fmt.Print(t)
	if err := errors.Join(found...); err != nil {
		return err
	}
	return hold(t, write)
}

// faults lists what is wrong with a build's kernels on an architecture.
func faults(names []string, build string, architecture int, used map[string]usage) []error {
	var list []error
	for _, name := range names {
		fault := func(format string, args ...any) {
			list = append(list, fmt.Errorf("%s (%s, sm_%d): "+format, append([]any{name, build, architecture}, args...)...))
		}
		k, ok := used[name]
		if !ok {
			fault("not in the code")
		}
		if k.spilled > 0 {
			fault("spills %d bytes of registers", k.spilled)
		}
		if k.shared > sharedLimit {
			fault("takes %d bytes of shared memory, and a block may have %d", k.shared, sharedLimit)
		}
		if k.registers*blockThreads > registerFile {
			fault("%d registers, so that a block of %d threads does not start", k.registers, blockThreads)
		}
	}
	return list
}

// kernelNames lists the kernels in the order of their text.
func kernelNames(source string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(`).FindAllStringSubmatch(source, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// assemble has ptxas make machine code and returns what each kernel takes.
func assemble(ptxas, code string, architecture int) (map[string]usage, error) {
	folder, err := os.MkdirTemp("", "pixpro-ptxas-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "kernels.ptx")
	if err := os.WriteFile(file, []byte(code), 0o666); err != nil {
		return nil, err
	}
	output, err := exec.Command(ptxas, fmt.Sprintf("-arch=sm_%d", architecture), "-v", "-o", filepath.Join(folder, "kernels.cubin"), file).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s for sm_%d: %w\n%s", ptxas, architecture, err, output)
	}
	return parse(string(output))
}

var (
	entryLine     = regexp.MustCompile(`Compiling entry function '(\w+)' for`)
	stackLine     = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	registersLine = regexp.MustCompile(`Used (\d+) registers`)
	sharedPart    = regexp.MustCompile(`(\d+) bytes smem`)
)

// parse reads what ptxas -v prints.
func parse(output string) (map[string]usage, error) {
	found := map[string]usage{}
	name := ""
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // the patterns let digits through only
		return n
	}
	for line := range strings.Lines(output) {
		if m := entryLine.FindStringSubmatch(line); m != nil {
			name = m[1]
			continue
		}
		u := found[name]
		if m := stackLine.FindStringSubmatch(line); m != nil && name != "" {
			u.stack, u.spilled = number(m[1]), number(m[2])+number(m[3])
		} else if m := registersLine.FindStringSubmatch(line); m != nil && name != "" {
			u.registers = number(m[1])
			if m := sharedPart.FindStringSubmatch(line); m != nil {
				u.shared = number(m[1])
			}
		} else {
			continue
		}
		found[name] = u
	}
	for name, u := range found {
		if u.registers == 0 {
			return nil, fmt.Errorf("ptxas does not say how many registers %s takes:\n%s", name, output)
		}
	}
	return found, nil
}

// table is in Markdown: registers of each build and architecture, and the most
// shared memory and stack of them all.
func table(names []string, of []map[int]map[string]usage) string {
	var b strings.Builder
	b.WriteString("| kernel |")
	for _, build := range builds {
		for _, a := range architectures {
			fmt.Fprintf(&b, " %s sm_%d |", build.name, a)
		}
	}
	b.WriteString(" shared bytes | stack bytes |\n| --- |" + strings.Repeat(" ---: |", len(builds)*len(architectures)+2) + "\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| `%s` |", name)
		var shared, stack int
		for i := range builds {
			for _, a := range architectures {
				u := of[i][a][name]
				fmt.Fprintf(&b, " %d |", u.registers)
				shared, stack = max(shared, u.shared), max(stack, u.stack)
			}
		}
		fmt.Fprintf(&b, " %d | %d |\n", shared, stack)
	}
	return b.String()
}

// hold compares the document's table with t, or replaces it.
func hold(t string, write bool) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: %q … %q", document, begin, end)
	}
	if old == t {
		return nil
	}
	if !write {
		return fmt.Errorf("the table in %s is of other kernels: make cuda-check WRITE=1 writes this one there", document)
	}
	return atomicfile.WriteFile(document, []byte(before+begin+t+end+after))
}

// nvrtc is NVIDIA's run-time compiler, which works where no card is.
type nvrtc struct {
	version string

	create  func(program *uintptr, source, name string, headers int32, texts, names *byte) int32
	destroy func(program *uintptr) int32
	build   func(program uintptr, count int32, options **byte) int32
	size    func(program uintptr, n *uintptr) int32
	code    func(program uintptr, to *byte) int32
	logSize func(program uintptr, n *uintptr) int32
	log     func(program uintptr, to *byte) int32
}

func openNVRTC() (*nvrtc, error) {
	var library uintptr
	var err error
	for _, name := range []string{"libnvrtc.so.11.2", "libnvrtc.so.12", "libnvrtc.so"} {
		if library, err = purego.Dlopen(name, purego.RTLD_NOW); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("NVRTC is missing (LD_LIBRARY_PATH): %w", err)
	}
	var n nvrtc
	var version func(major, minor *int32) int32
	purego.RegisterLibFunc(&version, library, "nvrtcVersion")
	purego.RegisterLibFunc(&n.create, library, "nvrtcCreateProgram")
	purego.RegisterLibFunc(&n.destroy, library, "nvrtcDestroyProgram")
	purego.RegisterLibFunc(&n.build, library, "nvrtcCompileProgram")
	purego.RegisterLibFunc(&n.size, library, "nvrtcGetPTXSize")
	purego.RegisterLibFunc(&n.code, library, "nvrtcGetPTX")
	purego.RegisterLibFunc(&n.logSize, library, "nvrtcGetProgramLogSize")
	purego.RegisterLibFunc(&n.log, library, "nvrtcGetProgramLog")
	var major, minor int32
	if r := version(&major, &minor); r != 0 {
		return nil, fmt.Errorf("version of NVRTC: status %d", r)
	}
	n.version = fmt.Sprintf("%d.%d", major, minor)
	return &n, nil
}

// compile turns CUDA C into PTX; its error holds the compiler's log.
func (n *nvrtc) compile(source string, options []string) (string, error) {
	var program uintptr
	if r := n.create(&program, source, filepath.Base(kernels), 0, nil, nil); r != 0 {
		return "", fmt.Errorf("status %d", r)
	}
	defer n.destroy(&program)
	var pin runtime.Pinner
	defer pin.Unpin()
	list := make([]*byte, len(options))
	for i, o := range options {
		text := append([]byte(o), 0)
		pin.Pin(unsafe.SliceData(text))
		list[i] = unsafe.SliceData(text)
	}
	if r := n.build(program, int32(len(list)), unsafe.SliceData(list)); r != 0 {
		log, err := text(program, n.logSize, n.log)
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("status %d\n%s", r, log)
	}
	return text(program, n.size, n.code)
}

// text fetches one of a program's texts.
func text(program uintptr, size func(uintptr, *uintptr) int32, get func(uintptr, *byte) int32) (string, error) {
	var length uintptr
	if r := size(program, &length); r != 0 || length == 0 {
		return "", fmt.Errorf("size of NVRTC's output: status %d", r)
	}
	b := make([]byte, length)
	if r := get(program, &b[0]); r != 0 {
		return "", fmt.Errorf("NVRTC's output: status %d", r)
	}
	return string(b[:length-1]), nil
}

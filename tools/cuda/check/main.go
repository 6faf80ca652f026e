//go:build linux

// Command check compiles the CUDA kernels for several architectures by all
// releases of NVRTC that tools/cuda/fetch.sh fetches, without a card, and fails if
// one spills registers, takes more shared memory than a launch may have, or more
// instructions for the bytes that it moves than it should. It holds docs/cuda.md to
// the table of what they take, or writes it there.
//
//	go run ./tools/cuda/check -compilers FOLDER [-write]
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/device/cuda/nvrtc"
	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
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

// architectures are those that are looked at, each as the newest release of
// NVRTC that knows it compiles for it.
var architectures = []int{70, 80, 90, 100, 120}

// countedOn is the architecture that instructions are counted on.
const countedOn = 90

// builds are the two ways that the device compiles the kernels.
var builds = []struct {
	name    string
	options []string
}{
	{"float32", nil},
	{"bf16", []string{"-DPIXPRO_BF16"}},
}

// usage is what the compiler says of a kernel.
type usage struct {
	registers, shared, stack, spilled, instructions int
	pace                                            float64 // see perEight
}

// built is the kernels of a build and an architecture.
type built map[int]map[string]usage // by architecture and kernel

func main() {
	compilers := flag.String("compilers", "", "folder that tools/cuda/fetch.sh compilers printed")
	write := flag.Bool("write", false, "write the table to "+document)
	flag.Parse()
	if err := check(*compilers, *write); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func check(folder string, write bool) error {
	source, err := os.ReadFile(kernels)
	if err != nil {
		return err
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	libraries, err := filepath.Glob(filepath.Join(folder, "*", "nvidia", "*", "lib", "libnvrtc.so.*"))
	if err != nil {
		return err
	}
	disassemblers, err := filepath.Glob(filepath.Join(folder, "*", "nvidia", "*", "bin", "nvdisasm"))
	if err != nil {
		return err
	}
	if len(libraries) == 0 || len(disassemblers) == 0 {
		return fmt.Errorf("no NVRTC or no nvdisasm below %s: tools/cuda/fetch.sh compilers fetches them", folder)
	}
	var releases []*nvrtc.Compiler
	for _, path := range libraries {
		library, err := toolkit.NVRTC.OpenFile(path)
		if err != nil {
			return err
		}
		c, err := nvrtc.New(library)
		if err != nil {
			return err
		}
		releases = append(releases, c)
	}
	slices.SortFunc(releases, func(a, b *nvrtc.Compiler) int { return a.Major - b.Major })
	names := kernelNames(string(source))
	for name := range paces {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s has no kernel %s, whose instructions are bounded", kernels, name)
		}
	}
	fmt.Printf("%d kernels\n", len(names))
	of := make([]built, len(builds))
	var found []error
	for i, build := range builds {
		// A library compiles one program at a time; several do so side by side.
		used := make([]built, len(releases))
		var g errgroup.Group
		for r, c := range releases {
			g.Go(func() (err error) {
				used[r], err = compile(string(source), c, build.options, disassemblers[0])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		of[i] = built{}
		for r, c := range releases {
			for _, architecture := range slices.Sorted(maps.Keys(used[r])) {
				found = append(found, faults(names, build.name+", NVRTC "+c.Version(), architecture, used[r][architecture])...)
				of[i][architecture] = used[r][architecture]
			}
			fmt.Printf("%s by NVRTC %s: %d of %d architectures\n", build.name, c.Version(), len(used[r]), len(architectures))
		}
		for _, architecture := range architectures {
			if of[i][architecture] == nil {
				return fmt.Errorf("no NVRTC below %s compiles for sm_%d", folder, architecture)
			}
		}
	}
	t := table(names, of)
	fmt.Print(t)
	if err := errors.Join(found...); err != nil {
		return err
	}
	return hold(t, write)
}

// compile compiles the kernels for each architecture that a release of NVRTC knows.
func compile(source string, c *nvrtc.Compiler, options []string, disassembler string) (built, error) {
	used := built{}
	for _, architecture := range architectures {
		options := append([]string{fmt.Sprintf("--gpu-architecture=sm_%d", architecture), "--std=c++14", "--ptxas-options=-v"}, options...)
		made, err := c.Compile(source, filepath.Base(kernels), options...)
		if errors.Is(err, nvrtc.InvalidOption) {
			continue // older than the architecture, or newer than its end
		}
		if err != nil {
			return nil, fmt.Errorf("%s by NVRTC %s with %s: %w", kernels, c.Version(), strings.Join(options, " "), err)
		}
		if used[architecture], err = parse(made.Log); err != nil {
			return nil, err
		}
		if architecture == countedOn {
			if err := count(disassembler, made.Code, used[architecture]); err != nil {
				return nil, err
			}
		}
	}
	return used, nil
}

// count has machine code disassembled and adds how many instructions each
// kernel has, once each, however often they run, and its loop for 8 bytes.
func count(disassembler string, code []byte, of map[string]usage) error {
	folder, err := os.MkdirTemp("", "pixpro-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "kernels.cubin")
	if err := os.WriteFile(file, code, 0o666); err != nil {
		return err
	}
	text, err := exec.Command(disassembler, "-c", file).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("%s: %w", disassembler, err)
	}
	inLoops := loops(string(text))
	for name, n := range instructions(string(text)) {
		u, ok := of[name]
		if !ok {
			return fmt.Errorf("%s names a kernel %s that the compiler did not", disassembler, name)
		}
		u.instructions = n
		if p, ok := paces[name]; ok {
			u.pace = perEight(inLoops[name], p.reads)
		}
		of[name] = u
	}
	return nil
}

var (
	sectionLine     = regexp.MustCompile(`^\.text\.(\w+):`)
	instructionLine = regexp.MustCompile(`^\s*/\*[0-9a-f]{4,}\*/\s+(.*)`)
)

// instructions counts those of each kernel in what nvdisasm -c prints, but for
// the NOPs that fill a section up.
func instructions(text string) map[string]int {
	counts := map[string]int{}
	name := ""
	for line := range strings.Lines(text) {
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			name = m[1]
		} else if m := instructionLine.FindStringSubmatch(line); m != nil && name != "" && !strings.HasPrefix(m[1], "NOP") {
			counts[name]++
		}
	}
	return counts
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
		if p, ok := paces[name]; ok && architecture == countedOn && (k.pace == 0 || k.pace > p.most) {
			fault("%.1f instructions for 8 bytes (0: there is no such loop), %g are allowed", k.pace, p.most)
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

var (
	entryLine     = regexp.MustCompile(`Compiling entry function '(\w+)' for`)
	stackLine     = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	registersLine = regexp.MustCompile(`Used (\d+) registers`)
	sharedPart    = regexp.MustCompile(`(\d+) bytes smem`)
)

// parse reads what ptxas -v prints, which NVRTC runs.
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

// table is in Markdown: registers of each build and architecture, the most
// shared memory and stack of them all, and instructions.
func table(names []string, of []built) string {
	var b strings.Builder
	b.WriteString("| kernel |")
	for _, build := range builds {
		for _, a := range architectures {
			fmt.Fprintf(&b, " %s sm_%d |", build.name, a)
		}
	}
	b.WriteString(" shared bytes | stack bytes |")
	for _, build := range builds {
		fmt.Fprintf(&b, " instructions, %s |", build.name)
	}
	for _, build := range builds {
		fmt.Fprintf(&b, " for 8 bytes, %s |", build.name)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(builds)*len(architectures)+2+2*len(builds)) + "\n")
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
		fmt.Fprintf(&b, " %d | %d |", shared, stack)
		for i := range builds {
			fmt.Fprintf(&b, " %d |", of[i][countedOn][name].instructions)
		}
		for i := range builds {
			if p := of[i][countedOn][name].pace; p > 0 {
				fmt.Fprintf(&b, " %.1f |", p)
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
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

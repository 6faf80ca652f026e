//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'sums' for 'sm_80'
ptxas info    : Function properties for sums
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, 4096 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'greedy' for 'sm_80'
ptxas info    : Function properties for greedy
    24 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 255 registers, 360 bytes cmem[0]
`

func TestParse(t *testing.T) {
	got, err := parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]usage{"sums": {registers: 32, shared: 4096}, "greedy": {registers: 255, stack: 24, spilled: 32}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(usage{})); d != "" {
		t.Error(d)
	}
	if _, err := parse(strings.ReplaceAll(sample, "Used", "Takes")); err == nil {
		t.Error("no registers, and no error")
	}
}

func TestInstructions(t *testing.T) {
	text := `
.text.one:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/               @P0 EXIT ;
        /*0020*/                   BRA ` + "`(.L_x_1)" + ` ;
        /*0030*/                   NOP;
.text.two:
        /*0000*/                   EXIT ;
`
	if got, want := instructions(text), (map[string]int{"one": 3, "two": 1}); !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLoops has one inside another.
func TestLoops(t *testing.T) {
	const text = `
.text.one:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E.128.CONSTANT R20, desc[UR8][R4.64] ;
.L_x_2:
        /*0020*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0030*/               @P1 BRA ` + "`(.L_x_2)" + ` ;
        /*0040*/                   LDG.E.U16 R21, desc[UR8][R4.64] ;
        /*0050*/                   STG.E.64 desc[UR8][R4.64], R20 ;
        /*0060*/               @P0 BRA ` + "`(.L_x_1)" + ` ;
        /*0070*/                   STG.E desc[UR8][R4.64], R20 ;
        /*0080*/                   BRA ` + "`(.L_x_3)" + ` ;
.L_x_3:
        /*0090*/                   EXIT ;
`
	got := loops(text)["one"]
	want := []loop{{2, 0, 0}, {6, 18, 8}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(loop{})); d != "" {
		t.Error(d)
	}
	for reads, want := range map[int]float64{0: 6, 1: 8. * 6 / 18, 2: 8. * 6 / 9} {
		if v := perEight(got, reads); v != want {
			t.Errorf("%g instructions of %d arrays, want %g", v, reads, want)
		}
	}
	if v := perEight(got[:1], 0); v != 0 {
		t.Errorf("a loop that moves nothing has %g", v)
	}
	for modifiers, want := range map[string]int{"": 4, ".U8": 1, ".S16": 2, ".64": 8, ".128.CONSTANT": 16, ".EF.U16": 2} {
		if n := width(modifiers); n != want {
			t.Errorf("%q has %d bytes, want %d", modifiers, n, want)
		}
	}
}

func TestKernelNames(t *testing.T) {
	text := "extern \"C\" __global__ void one(int n) {\n__device__ void not(int n) {\nextern \"C\" __global__ void __launch_bounds__(256) two(float* p) {"
	if got := kernelNames(text); !cmp.Equal(got, []string{"one", "two"}) {
		t.Errorf("got %v", got)
	}
}

func TestFaults(t *testing.T) {
	used := map[string]usage{
		"fine": {registers: 64, shared: 48 << 10}, "spills": {registers: 255, spilled: 8},
		"large": {registers: 32, shared: 48<<10 + 1}, "greedy": {registers: 257},
	}
	var said []string
	for _, err := range faults([]string{"fine", "spills", "large", "greedy", "missing"}, "float32", 80, used) {
		said = append(said, err.Error())
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"spills (float32, sm_80): spills 8 bytes", "large (float32, sm_80): takes 49153 bytes", "greedy (float32, sm_80): 257 registers", "missing (float32, sm_80): not in the code"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if len(said) != 4 {
		t.Errorf("%d faults:\n%s", len(said), all)
	}
	for pace, fails := range map[float64]bool{0: true, 30: false, 31: true} {
		list := faults([]string{"im2col_16"}, "bf16", countedOn, map[string]usage{"im2col_16": {registers: 32, pace: pace}})
		if (len(list) > 0) != fails {
			t.Errorf("%g instructions for 8 bytes give %v", pace, list)
		}
	}
}

//go:build linux

package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// loop is the body of a loop, with those inside once.
type loop struct {
	instructions int
	loaded       int // bytes of global memory
	stored       int
}

// pace is what a kernel that moves much of a step may take.
type pace struct {
	reads int     // arrays whose bytes count, 0 for what it writes
	most  float64 // instructions for 8 bytes in its loop
}

// paces are those kernels. Before these bounds, windows took 285 instructions for 8
// bytes, and batch norms 37 to 84 in their loops.
var paces = map[string]pace{
	"im2col_16":                         {0, 30},
	"im2col_values":                     {0, 60},
	"col2im_16":                         {1, 36},
	"batch_norm_sums_16":                {1, 24},
	"batch_norm_apply_16":               {0, 24},
	"batch_norm_residual_apply_16":      {0, 36},
	"batch_norm_backward_sums_16":       {2, 32},
	"batch_norm_backward_sums_by_y_16":  {3, 48},
	"batch_norm_backward_sums_by_x_16":  {2, 44},
	"batch_norm_backward_apply_16":      {0, 34},
	"batch_norm_backward_apply_by_x_16": {0, 46},
	"max_pool_16":                       {1, 28},
}

var (
	labelLine  = regexp.MustCompile(`^\s*(\.L_\w+):`)
	branch     = regexp.MustCompile(`\bBRA(?:\.\w+)*\s.*\(?(\.L_\w+)\)?`)
	memoryCall = regexp.MustCompile(`\b(LDG|STG)\.E((?:\.\w+)*)`)
)

// loops lists those of each kernel in what nvdisasm -c prints.
func loops(text string) map[string][]loop {
	type line struct{ label, instruction string }
	kernels := map[string][]line{}
	name := ""
	for l := range strings.Lines(text) {
		if m := sectionLine.FindStringSubmatch(l); m != nil {
			name = m[1]
		} else if m := labelLine.FindStringSubmatch(l); m != nil && name != "" {
			kernels[name] = append(kernels[name], line{label: m[1]})
		} else if m := instructionLine.FindStringSubmatch(l); m != nil && name != "" {
			kernels[name] = append(kernels[name], line{instruction: m[1]})
		}
	}
	found := map[string][]loop{}
	for name, lines := range kernels {
		type span struct{ from, to int }
		var spans []span
		for to, l := range lines {
			m := branch.FindStringSubmatch(l.instruction)
			if m == nil {
				continue
			}
			if from := slices.IndexFunc(lines[:to], func(l line) bool { return l.label == m[1] }); from >= 0 {
				spans = append(spans, span{from, to})
			}
		}
		for _, s := range spans {
			var body loop
			for _, l := range lines[s.from : s.to+1] {
				if l.instruction == "" {
					continue
				}
				body.instructions++
				if m := memoryCall.FindStringSubmatch(l.instruction); m != nil {
					if m[1] == "LDG" {
						body.loaded += width(m[2])
					} else {
						body.stored += width(m[2])
					}
				}
			}
			found[name] = append(found[name], body)
		}
	}
	return found
}

// perEight is how many instructions the loop that moves most of a kernel has for 8
// bytes: of the array that it writes, or of one of the so many that it reads, if
// that is not 0. It is 0 if there is no such loop.
func perEight(all []loop, reads int) float64 {
	var most loop
	bytes := func(l loop) float64 {
		if reads > 0 {
			return float64(l.loaded) / float64(reads)
		}
		return float64(l.stored)
	}
	for _, l := range all {
		if b := bytes(l); b > bytes(most) || b == bytes(most) && l.instructions < most.instructions {
			most = l
		}
	}
	if bytes(most) == 0 {
		return 0
	}
	return 8 * float64(most.instructions) / bytes(most)
}

// width is the bytes that a load or store with these modifiers has.
func width(modifiers string) int {
	for modifier := range strings.SplitSeq(modifiers, ".") {
		switch modifier {
		case "64", "128":
			bits, _ := strconv.Atoi(modifier)
			return bits / 8
		case "U8", "S8":
			return 1
		case "U16", "S16":
			return 2
		}
	}
	return 4
}

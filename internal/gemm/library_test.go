//go:build (linux || darwin) && !android && (amd64 || arm64)

package gemm

import (
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/internal/cpu"
)

func TestSlowCoresAreLeftAlone(t *testing.T) {
	for _, c := range []struct {
		core  string
		level cpu.Level
		want  string // "": used
	}{
		{"Prescott", cpu.AVX512, "OPENBLAS_CORETYPE=SkylakeX"},
		{"Nehalem", cpu.AVX2, "OPENBLAS_CORETYPE=Haswell"},
		{"Prescott", cpu.Generic, ""}, // still faster than portable Go
		{"SkylakeX", cpu.AVX512, ""},
		{"Zen", cpu.AVX2, ""},
		{"neoversen1", cpu.Generic, ""},
	} {
		err := slowCore("libopenblas.so.0", c.core, c.level)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("core %s at level %s: %v, want %q", c.core, c.level, err, c.want)
		}
	}
}

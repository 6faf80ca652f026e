package cpu

import "testing"

func TestEnvironmentLowersTheLevel(t *testing.T) {
	for _, c := range []struct {
		value string
		want  Level
		fails bool
	}{
		{"", Processor, false},
		{"generic", Generic, false},
		{Processor.String(), Processor, false},
		{"sse9", Processor, true},
	} {
		got, err := fromEnvironment(c.value)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("fromEnvironment(%q) = %v, %v; want %v, error %v", c.value, got, err, c.want, c.fails)
		}
	}
	if Processor < AVX512BF16 {
		if got, err := fromEnvironment("avx512bf16"); err == nil || got != Processor {
			t.Errorf("a level above the processor's was accepted: %v, %v", got, err)
		}
	}
}

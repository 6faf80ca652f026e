package cpu

import "testing"

func TestEnvironmentLowersTheLevel(t *testing.T) {
	for _, c := range []struct {
		value string
		want  Level
		fails bool
	}{
		{"", Available, false},
		{"generic", Generic, false},
		{Available.String(), Available, false},
		{"sse9", Available, true},
	} {
		got, err := fromEnvironment(c.value)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("fromEnvironment(%q) = %v, %v; want %v, error %v", c.value, got, err, c.want, c.fails)
		}
	}
	if Available < AVX512 {
		if got, err := fromEnvironment("avx512"); err == nil || got != Available {
			t.Errorf("a level above the available one was accepted: %v, %v", got, err)
		}
	}
}

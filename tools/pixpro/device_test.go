package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/options"
)

// TestErrorsOfOptionsNameFlags has errors as the library makes them.
func TestErrorsOfOptionsNameFlags(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"batch", "0", "--batch 0: must be at least 1"},
		{"device", "toaster", "--device toaster: use auto, cpu, cuda"},
		{"precision", "tf32", "--precision tf32: device cpu computes in fp32 or bf16 only"},
		{"recipe", "", `--recipe "": `},
		{"recipe", "a b", `--recipe "a b": `},
	} {
		o := options.Default()
		o.Output = "run"
		if err := o.Set(c.name, c.value); err != nil {
			t.Fatal(err)
		}
		err := asUsage(o.Validate())
		var usage usageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %q gives %v, want %s…", c.name, c.value, err, c.want)
		}
	}
	other := errors.New("disk full")
	if got := asUsage(other); got != other {
		t.Errorf("an error of no option becomes %v", got)
	}
}

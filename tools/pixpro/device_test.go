package main

import (
	"errors"
	"testing"
)

func TestDevicesByName(t *testing.T) {
	for name, want := range map[string]deviceSpec{
		"cpu": {"cpu", 0}, "cuda": {"cuda", 0}, "cuda:3": {"cuda", 3}, "auto": {"auto", 0},
	} {
		if got, err := parseDevice(name); err != nil || got != want {
			t.Errorf("%s is %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "gpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "auto:0"} {
		if got, err := parseDevice(name); err == nil {
			t.Errorf("%q is %+v", name, got)
		}
	}
	var usage usageError
	for _, c := range [][2]string{{"tpu", "fp32"}, {"cpu", "fp16"}, {"cpu", "bf16"}} {
		if _, err := openDevice(t.Context(), c[0], c[1], 1); !errors.As(err, &usage) {
			t.Errorf("%v: the error is %v", c, err)
		}
	}
	d, err := openDevice(t.Context(), "cpu", "fp32", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

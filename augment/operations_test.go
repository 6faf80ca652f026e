package augment

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestOperationNumbers: record batches hold the numbers, recipes the names.
func TestOperationNumbers(t *testing.T) {
	names := []string{"brightness", "contrast", "saturation", "hue", "sharpness", "posterize", "solarize", "autocontrast", "equalize"}
	ops := Operations()
	if len(ops) != len(names) {
		t.Fatalf("there are %d operations, want %q", len(ops), names)
	}
	for i, name := range names {
		if ops[i] != Op(i) || ops[i].String() != name {
			t.Errorf("operation %d is number %d, %v; want %s", i, uint8(ops[i]), ops[i], name)
		}
	}
}

func TestOperationText(t *testing.T) {
	for _, op := range Operations() {
		text, err := json.Marshal(Jitter{Op: op})
		if err != nil {
			t.Fatal(err)
		}
		var got Jitter
		if err := json.Unmarshal(text, &got); err != nil || got.Op != op {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
	}
	if got := opCount.String(); got != "Op(9)" {
		t.Errorf("Op(9) is called %q", got)
	}
	if got := (Jitter{Op: opCount, Factor: 2}).String(); got != "Op(9)" {
		t.Errorf("an operation that does not exist is described as %q", got)
	}
	if _, err := opCount.MarshalText(); err == nil {
		t.Error("Op(9) can be written")
	}
	if err := new(Op).UnmarshalText([]byte("rotation")); err == nil || !strings.Contains(err.Error(), `"rotation"`) || !strings.Contains(err.Error(), `"sharpness"`) {
		t.Errorf("the error %v does not say what was read and what there is", err)
	}
}

// TestOperationTable: each row has what its readers need.
func TestOperationTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var scratch Scratch
	seen := map[string]bool{}
	for _, op := range Operations() {
		row := &operations[op]
		if row.name == "" || seen[row.name] {
			t.Errorf("operation %d is called %q, which is empty or taken", uint8(op), row.name)
		}
		seen[row.name] = true
		if (row.jitter != nil) != (op < jitterCount) {
			t.Errorf("%v: the colour jitter's operations are the first %d", op, jitterCount)
		}
		if (row.magnitude != nil) != slices.Contains(randAugment[:], op) {
			t.Errorf("%v has a magnitude or is one of RandAugment's, but not both", op)
		}
		if err := op.Typical().Validate(); err != nil {
			t.Errorf("typical factor: %v", err)
		}
		for m := 0; row.magnitude != nil && m <= maxRandMagnitude; m++ {
			for _, negative := range []bool{false, true} {
				if err := (Jitter{op, row.magnitude(m, negative)}).Validate(); err != nil {
					t.Errorf("magnitude %d, negative %v: %v", m, negative, err)
				}
			}
		}
		if row.factor.caption == nil {
			continue
		}
		view := planesOf(noise(rng, 9, 9))
		before := clonePlanes(view)
		op.Typical().Apply(view, &scratch)
		if slices.Equal(view.Pix, before.Pix) {
			t.Errorf("%v changes nothing", op.Typical())
		}
	}
}

func TestJitterString(t *testing.T) {
	for _, test := range []struct {
		jitter Jitter
		want   string
	}{
		{Jitter{OpBrightness, 0.8}, "brightness ×0.80"},
		{Jitter{OpContrast, 1.2}, "contrast ×1.20"},
		{Jitter{OpSaturation, 0}, "saturation ×0.00"},
		{Jitter{OpHue, -0.0414}, "hue -14.9°"},
		{Jitter{OpHue, 0.1}, "hue +36.0°"},
		{Jitter{OpSharpness, 1.27}, "sharpness ×1.27"},
		{Jitter{OpPosterize, 4}, "posterize to 4 bits"},
		{Jitter{OpPosterize, 1}, "posterize to 1 bit"},
		{Jitter{OpSolarize, 178.5}, "solarize from 178.5"},
		{Jitter{OpSolarize, SolarizeThreshold}, "solarize from 128"},
		{Jitter{OpAutoContrast, 0}, "autocontrast"},
		{Jitter{OpEqualize, 0}, "equalize"},
	} {
		if got := test.jitter.String(); got != test.want {
			t.Errorf("%d with %v is described as %q, want %q", uint8(test.jitter.Op), test.jitter.Factor, got, test.want)
		}
	}
}

func TestJitterApplyPanicsOnWhatValidateRefuses(t *testing.T) {
	for _, j := range []Jitter{{OpPosterize, 9}, {OpHue, 0.6}, {opCount, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v with %v is applied", j.Op, j.Factor)
				}
			}()
			j.Apply(NewPlanes(1, 1), new(Scratch))
		}()
	}
}

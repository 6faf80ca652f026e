package options_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	_ "github.com/seed-436d2970/pixpro/train/device/cpu"
	_ "github.com/seed-436d2970/pixpro/train/device/cuda"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/options"
)

// TestEveryFieldIsAnOption changes each row by its text, and finds that all
// fields of Options have changed then, each by its own row.
func TestEveryFieldIsAnOption(t *testing.T) {
	o := options.Default()
	before := o.Clone()
	names := map[string]bool{}
	for _, r := range o.Rows() {
		if names[r.Name] {
			t.Errorf("two options are called %s", r.Name)
		}
		names[r.Name] = true
		if r.Help == "" || !slices.Contains(options.Groups(), r.Group) {
			t.Errorf("%s has no help, or the group %q", r.Name, r.Group)
		}
		if err := o.Set(r.Name, other(t, r)); err != nil {
			t.Fatal(err)
		}
		if o.Equal(before) {
			t.Errorf("a change of %s is not seen", r.Name)
		}
		if !r.Local && !r.Change && !slices.ContainsFunc(o.Differences(&before), func(d string) bool { return strings.HasPrefix(d, r.Name+" was ") }) {
			t.Errorf("%s differs, and Differences says %v", r.Name, o.Differences(&before))
		}
	}
	was, is := reflect.ValueOf(before), reflect.ValueOf(o)
	for i := range is.NumField() {
		f := is.Type().Field(i)
		if f.IsExported() && reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			t.Errorf("field %s has no option", f.Name)
		}
	}
}

// other is a text for another value than a row has.
func other(t *testing.T, r options.Row) string {
	t.Helper()
	switch r.Type() {
	case "int", "uint":
		return "77"
	case "float":
		return "0.0625"
	case "ints":
		return "1,22"
	case "duration":
		return "77s"
	case "interval":
		return "77steps"
	case "string":
		return "other"
	}
	t.Fatalf("%s is of type %s, which this test does not know", r.Name, r.Type())
	return ""
}

// TestOptionsSurviveAFile writes options with no default left, and reads them.
func TestOptionsSurviveAFile(t *testing.T) {
	o := options.Default()
	for _, r := range o.Rows() {
		if !r.Local {
			if err := o.Set(r.Name, other(t, r)); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	got := options.Default()
	if err := got.ReadFile(file(t, string(data))); err != nil {
		t.Fatal(err)
	}
	if !got.Equal(o) {
		t.Errorf("the file\n%s\nis read as other options", data)
	}
	if !strings.Contains(string(data), "lr-decay-epochs: [1, 22]\n") || strings.Contains(string(data), "resume") {
		t.Errorf("the file is\n%s", data)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	got := options.Default()
	if err := got.ReadFile(file(t, "arch: resnet18\nbase-lr: 0.5\nsave-every: 10m\npixcontrast-tau: 0.4\n")); err != nil {
		t.Fatal(err)
	}
	want := options.Default()
	want.Arch, want.BaseLR, want.SaveEvery = "resnet18", 0.5, options.Interval{Time: 600e9}
	method.Options[*method.PixContrast](&want).Temperature = 0.4
	if !got.Equal(want) {
		t.Errorf("the options are %+v, want %+v", got, want)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		if err := got.ReadFile(file(t, empty)); err != nil || !got.Equal(want) {
			t.Errorf("%q changes the options, or gives %v", empty, err)
		}
	}
	for bad, want := range map[string]string{
		"archh: resnet18\n":              `line 1: there is no option "archh"`,
		"seed: 1\nepochs: many\n":        "line 2: option epochs",
		"save-every: never\n":            "never",
		"arch: [\n":                      "yaml",
		"seed: 1\nseed: 2\n":             "line 2: option seed is given twice",
		"- arch\n":                       "NAME: VALUE",
		"arch: resnet18\n---\nseed: 1\n": "second document",
		"size: 1.5\n":                    "option size",
	} {
		o := options.Default()
		if err := o.ReadFile(file(t, bad)); err == nil || !strings.Contains(err.Error(), "run.yaml") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want an error that names the file and says %q", bad, err, want)
		}
	}
}

// TestBadOptionsAreNamed has an option of each kind of check, and says what may
// be there.
func TestBadOptionsAreNamed(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"output", "", "name a folder"},
		{"size", "0", "must be from 1 to 8192"},
		{"size", "31", "a cell is 32 pixels wide"},
		{"batch", "0", "must be at least 1"},
		{"accumulate", "-1", "must be at least 1"},
		{"crop", "1.5", "must be from 0 to 1"},
		{"crop", "NaN", "must be from 0 to 1"},
		{"recipe", "nosuch", "byol"},
		{"recipe", "no/such.json", "no such file"},
		{"arch", "resnet51", "use one of"},
		{"stem", "big", "use imagenet, nopool or small"},
		{"width", "0", "above 0"},
		{"width", "NaN", "above 0"},
		{"method", "nosuch", "pixpro"},
		{"head-dim", "65537", "must be from 1 to 65536"},
		{"pixpro-pos-ratio", "0", "must be above 0"},
		{"pixpro-pos-ratio", "+Inf", "must be above 0"},
		{"pixpro-momentum", "1.01", "must be from 0 to 1"},
		{"pixpro-p", "0", "must be above 0"},
		{"pixpro-p", "1e+300", "must be from 0"},
		{"pixpro-clamp-value", "1", "at least 0 and below 1"},
		{"pixpro-transform-layer", "3", "must be from 0 to 2"},
		{"pixcontrast-tau", "-0.1", "must be above 0"},
		{"instance", "dino", "use none, byol or simclr"},
		{"pixpro-ins-loss-weight", "0", "must be above 0"},
		{"instance-tau", "NaN", "must be above 0"},
		{"optimizer", "adam", "use lars or sgd"},
		{"base-lr", "-1", "must be from 0"},
		{"momentum", "1", "at least 0 and below 1"},
		{"weight-decay", "+Inf", "must be at least 0"},
		{"warmup-epoch", "-1", "must be at least 0"},
		{"lr-scheduler", "linear", "use cosine or step"},
		{"lr-decay-epochs", "20,10", "must be epochs in order"},
		{"lr-decay-rate", "0", "must be above 0"},
		{"lr-decay-rate", "2", "must be from 0 to 1"},
		{"device", "toaster", "use auto, cpu, cuda"},
		{"device", "cpu:1", "use auto, cpu, cuda"},
		{"precision", "banana", "use fp32, tf32 or bf16"},
		{"precision", "tf32", "device cpu computes in fp32 or bf16 only"},
		{"threads", "-1", "must be at least 0"},
		{"keep", "-1", "must be at least 0"},
	} {
		o := options.Default()
		o.Output = "run"
		if err := o.Set(c.name, c.value); err != nil {
			t.Fatal(err)
		}
		err := o.Validate()
		var bad *options.Error
		if !errors.As(err, &bad) || bad.Name != c.name || bad.Value != c.value || !strings.Contains(bad.Want, c.want) {
			t.Errorf("%s %q gives %v, want an error of this option with %q", c.name, c.value, err, c.want)
		}
	}
	for name, value := range map[string]string{"batch": "many", "save-every": "soon", "crop": "half", "seed": "-1", "lr-decay-epochs": "1,b"} {
		o := options.Default()
		var bad *options.Error
		if err := o.Set(name, value); !errors.As(err, &bad) || bad.Name != name || bad.Value != value {
			t.Errorf("%s %q gives %v", name, value, err)
		}
	}
}

func TestOptionsBesideOthers(t *testing.T) {
	for _, c := range []struct {
		set  map[string]string
		want string
	}{
		{map[string]string{"method": "instance"}, "option instance none: method instance needs"},
		{map[string]string{"lr-scheduler": "step", "lr-decay-epochs": ""}, "option lr-decay-epochs"},
		{map[string]string{"arch": "resnet50_d", "size": "100"}, "option size 100: architectures with a deep stem"},
		{map[string]string{"device": "cuda", "precision": "bf16"}, ""},
		{map[string]string{"device": "cuda:3", "precision": "tf32"}, ""},
		{map[string]string{"device": "auto", "precision": "bf16"}, ""},
		{map[string]string{"method": "instance", "instance": "simclr"}, ""},
	} {
		o := options.Default()
		o.Output = "run"
		for name, value := range c.set {
			if err := o.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		err := o.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v gives %v, want %q", c.set, err, c.want)
		}
	}
}

// TestCloneSharesNothing changes a clone in every option.
func TestCloneSharesNothing(t *testing.T) {
	o := options.Default()
	before, c := o.Clone(), o.Clone()
	c.LRDecayEpochs[0] = 1
	for _, r := range c.Rows() {
		if err := r.Set(other(t, r)); err != nil {
			t.Fatal(err)
		}
	}
	if !o.Equal(before) {
		t.Error("a change of the clone changes what was cloned")
	}
}

func TestPresetsAreValid(t *testing.T) {
	if len(options.Presets()) == 0 {
		t.Fatal("there are no presets")
	}
	for _, name := range options.Presets() {
		o, err := options.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		o.Output = "run"
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var bad *options.Error
	if _, err := options.Preset("nosuch"); !errors.As(err, &bad) || bad.Name != "preset" {
		t.Errorf("an unknown preset gives %v", err)
	}
}

func TestParseInterval(t *testing.T) {
	for s, want := range map[string]options.Interval{
		"10m0s": {Time: 600e9}, "1000steps": {Steps: 1000}, "2epochs": {Epochs: 2}, "end": {},
	} {
		got, err := options.ParseInterval(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("ParseInterval(%q) = %+v, %v, printed as %q", s, got, err, got)
		}
	}
	for _, s := range []string{"", "0steps", "-1epoch", "soon", "-5m", "1.5steps"} {
		if _, err := options.ParseInterval(s); err == nil {
			t.Errorf("ParseInterval(%q) found no error", s)
		}
	}
}

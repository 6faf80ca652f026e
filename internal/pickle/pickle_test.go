package pickle

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// example is a value with all that Write can write.
func example() any {
	return &Dict{Items: []Item{
		{"model", &Object{
			Callable: Global{"collections", "OrderedDict"}, Args: Tuple{},
			Dict:  Dict{[]Item{{"weight", Persistent{Tuple{"storage", Global{"torch", "FloatStorage"}, "0", int64(9)}}}}},
			State: Tuple{nil, true, false},
		}},
		{"numbers", Tuple{int64(0), int64(-1), int64(1<<31 - 1), int64(-1 << 31), int64(1 << 31), int64(-1 << 63)}},
		{"text", "ä\n'"}, {"bytes", Bytes{0, 255, '.'}}, {"empty", &Dict{}},
	}}
}

func TestWriteThenRead(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, 3, example()); err != nil {
		t.Fatal(err)
	}
	b.WriteString("what follows")
	got, rest, err := Read(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), got.Value, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("value (-written +read):\n%s", diff)
	}
	if len(got.Persistent) != 1 || string(rest) != "what follows" {
		t.Errorf("%d references to the outside, then %q", len(got.Persistent), rest)
	}
}

func TestWriteRefusesWhatItCannotWrite(t *testing.T) {
	for _, v := range []any{1, 2.5, []byte{1}, Global{"a\nb", "c"}, "\xff", Tuple{&List{}}} {
		if err := Write(&bytes.Buffer{}, 2, v); err == nil {
			t.Errorf("%T %v was written", v, v)
		}
	}
}

// Pickles as Python 3.11 writes them (pickle.dumps).
func TestReadPython(t *testing.T) {
	for _, c := range []struct {
		name, pickle string
		want         any
	}{
		{"protocol 2: {'a': [1, 2.5, None], 'b': (True, 300)}",
			"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00NeX\x01\x00\x00\x00bq\x03\x88M,\x01\x86q\x04u.",
			&Dict{[]Item{{"a", &List{[]any{int64(1), 2.5, nil}}}, {"b", Tuple{true, int64(300)}}}}},
		{"protocol 4: {'x': b'ab', 'y': {1}}",
			"\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01x\x94C\x02ab\x94\x8c\x01y\x94\x8f\x94(K\x01\x90u.",
			&Dict{[]Item{{"x", Bytes("ab")}, {"y", &List{[]any{int64(1)}}}}}},
		{"a class: argparse.Namespace(lr=1)",
			"\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02X\x02\x00\x00\x00lrq\x03K\x01sb.",
			&Object{Callable: Global{"argparse", "Namespace"}, State: &Dict{[]Item{{"lr", int64(1)}}}}},
		{"a call: os.system('true')",
			"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
			&Object{Callable: Global{"posix", "system"}, Args: Tuple{"true"}}},
		{"torch's magic number", "\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Long("l\xfc\x9cF\xf9 j\xa8P\x19")},
		{"small longs", "\x80\x02(\x8a\x00\x8a\x01\xff\x8a\x02\x00\x80\x8a\x05\x00\x00\x00\x00\x01t.",
			Tuple{int64(0), int64(-1), int64(-32768), int64(1 << 32)}},
	} {
		p, rest, err := Read([]byte(c.pickle))
		if err != nil || len(rest) > 0 {
			t.Errorf("%s: %v, %d bytes left", c.name, err, len(rest))
			continue
		}
		if diff := cmp.Diff(c.want, p.Value, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ name, pickle, says string }{
		{"nothing", "", "too early"},
		{"no end", "\x80\x02N", "too early"},
		{"empty stack", "\x80\x02.", "not on the stack"},
		{"a protocol to come", "\x80\x09N.", "protocol 9"},
		{"a text longer than the file", "X\xff\xff\xff\xffab.", "too early"},
		{"a text of 2^63 bytes", "\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.", "too early"},
		{"tuple without mark", "t.", "not on the stack"},
		{"taking below the mark", "N(\x85.", "not on the stack"},
		{"key without value", "}(Nu.", "no value"},
		{"items into a number", "K\x01(Ne.", "cannot fill"},
		{"items into a tuple", ")(Ne.", "cannot fill"},
		{"memory that nobody filled", "h\x05.", "remembered as 5"},
		{"call with a number", "cos\nsystem\nK\x01R.", "not a tuple"},
		{"protocol 0", "(lp0\nI1\na.", "not one of those"},
		{"extension registry", "\x82\x01.", "not one of those"},
		{"not UTF-8", "X\x01\x00\x00\x00\xff.", "UTF-8"},
	} {
		_, _, err := Read([]byte(c.pickle))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want ErrFormat with %q", c.name, err, c.says)
		}
	}
}

func TestReadBoundsOperations(t *testing.T) {
	if _, _, err := Read(bytes.Repeat([]byte{opEmptyDict}, maxOperations+1)); err == nil || !strings.Contains(err.Error(), "operations") {
		t.Errorf("an endless pickle ends with %v", err)
	}
}

// Bad bytes give ErrFormat and nothing else, and the pickle ends where it says.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, 3, example()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01x\x94C\x02ab\x94\x8c\x01y\x94\x8f\x94(K\x01\x90u."))
	f.Add([]byte("\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02X\x02\x00\x00\x00lrq\x03K\x01sb."))
	f.Add([]byte("]q\x00h\x00a2\x862\x862\x86.")) // contains itself, and twice, and twice
	f.Fuzz(func(t *testing.T, data []byte) {
		_, rest, err := Read(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("bad bytes gave %v", err)
			}
			return
		}
		if n := len(data) - len(rest); n < 2 || data[n-1] != opStop {
			t.Fatalf("the pickle ends after %d bytes", n)
		}
	})
}

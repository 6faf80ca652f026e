package shards

import (
	"bytes"
	"math"
	"testing"
)

func TestAdviceChangesNothing(t *testing.T) {
	d := open(t, write(t, classTree(t, 12), 8<<10))
	want := make([][]byte, d.Len())
	for i := range want {
		s, err := d.Sample(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		want[i] = bytes.Clone(s.Image)
	}
	for i := range want {
		d.Prefetch(int64(i))
		d.used.Store(forgetBytes) // the next one is one too many
		s, err := d.Sample(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		if d.used.Load() != 0 {
			t.Fatal("the maps were not given back")
		}
		if !bytes.Equal(s.Image, want[i]) {
			t.Errorf("sample %d is another one after Prefetch and Forget", i)
		}
	}
	for _, i := range []int64{-1, d.Len(), math.MaxInt64} {
		d.Prefetch(i)
	}
	d.Forget(Sample{})
	s, err := d.Sample(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.Prefetch(0)
	d.Forget(s)
}

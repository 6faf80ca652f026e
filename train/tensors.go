package train

import (
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// lookup finds parameters in a safetensors file, as model.Load asks for them.
func lookup(f *safetensors.File) func(name string) ([]float32, []int, bool) {
	return func(name string) ([]float32, []int, bool) {
		t, ok := f.Tensor(name)
		if !ok {
			return nil, nil, false
		}
		values, err := t.Float32s()
		if err != nil {
			return nil, nil, false
		}
		shape := make([]int, len(t.Shape))
		for i, n := range t.Shape {
			shape[i] = int(n)
		}
		return values, shape, true
	}
}

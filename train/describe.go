package train

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/safetensors"
)

// Description is what a checkpoint or a file of weights holds: see Describe.
type Description struct {
	Path    string            `json:"path"`
	Format  string            `json:"format"`
	State   *checkpoint.State `json:"state,omitempty"`
	Config  map[string]any    `json:"config,omitempty"`
	Tensors []TensorSummary   `json:"tensors"`
	Totals  map[string]int64  `json:"elements"` // by the first part of the name
}

// TensorSummary is a tensor in a few numbers.
type TensorSummary struct {
	Name  string            `json:"name"`
	DType safetensors.DType `json:"dtype"`
	Shape []int             `json:"shape"`
	// Norm and Largest are left out where they are no finite numbers; NotFinite
	// counts the elements that are not.
	Norm      *float64 `json:"norm,omitempty"`
	Largest   *float64 `json:"largest,omitempty"`
	NotFinite int      `json:"not_finite,omitempty"`
}

// Describe sums up weights, and the run that they are of.
func Describe(w *Weights) Description {
	d := Description{Path: w.Path, Format: w.Format, Totals: map[string]int64{}}
	if c := w.Checkpoint; c != nil {
		d.State, d.Config = &c.State, settings(&c.Options)
	}
	for _, t := range w.Tensors {
		s := TensorSummary{Name: t.Name, DType: t.DType, Shape: t.Shape}
		values, err := t.Float32s()
		if err == nil { // others have integers
			var sum, largest float64
			for _, v := range values {
				x := math.Abs(float64(v))
				if math.IsNaN(x) || math.IsInf(x, 0) {
					s.NotFinite++
					continue
				}
				sum += x * x
				largest = max(largest, x)
			}
			norm := math.Sqrt(sum)
			s.Norm, s.Largest = &norm, &largest
			part, _, _ := strings.Cut(t.Name, ".")
			d.Totals[part] += int64(len(values))
		}
		d.Tensors = append(d.Tensors, s)
	}
	return d
}

// Difference is how two checkpoints or files of weights differ: see Compare.
type Difference struct {
	Equal   int             `json:"equal"` // tensors that are the same bit for bit
	Config  []string        `json:"config"`
	State   []string        `json:"state"`
	OnlyA   []string        `json:"only_a"`
	OnlyB   []string        `json:"only_b"`
	Shapes  []string        `json:"shapes"`
	Changed []ChangedTensor `json:"changed"`
}

// ChangedTensor is a tensor that both have, with other values.
type ChangedTensor struct {
	Name string `json:"name"`
	// Relative is |B - A| / |A|, Largest the largest difference of an element;
	// both are left out where a number is not finite.
	Relative *float64 `json:"relative,omitempty"`
	Largest  *float64 `json:"largest,omitempty"`
}

// Compare finds out how b differs from a.
func Compare(a, b *Weights) Difference {
	var d Difference
	if a.Checkpoint != nil && b.Checkpoint != nil {
		d.Config = compareSettings(settings(&a.Checkpoint.Options), settings(&b.Checkpoint.Options))
		x, y := a.Checkpoint.State, b.Checkpoint.State
		d.State = compareSettings(stateSettings(x), stateSettings(y))
	}
	tensors := map[string]safetensors.Tensor{}
	for _, t := range b.Tensors {
		tensors[t.Name] = t
	}
	for _, t := range a.Tensors {
		u, ok := tensors[t.Name]
		delete(tensors, t.Name)
		switch {
		case !ok:
			d.OnlyA = append(d.OnlyA, t.Name)
		case !slices.Equal(t.Shape, u.Shape):
			d.Shapes = append(d.Shapes, fmt.Sprintf("%s: %v, then %v", t.Name, t.Shape, u.Shape))
		case t.DType == u.DType && slices.Equal(t.Data, u.Data):
			d.Equal++
		default:
			d.Changed = append(d.Changed, compareTensors(t, u))
		}
	}
	for _, t := range b.Tensors {
		if _, left := tensors[t.Name]; left {
			d.OnlyB = append(d.OnlyB, t.Name)
		}
	}
	return d
}

func compareTensors(a, b safetensors.Tensor) ChangedTensor {
	c := ChangedTensor{Name: a.Name}
	x, errX := a.Float32s()
	y, errY := b.Float32s()
	if errX != nil || errY != nil {
		return c // of integers: that they differ is all there is to say
	}
	var sum, of, largest float64
	for i := range x {
		diff := math.Abs(float64(y[i]) - float64(x[i]))
		sum += diff * diff
		of += float64(x[i]) * float64(x[i])
		largest = max(largest, diff)
	}
	relative := math.Sqrt(sum) / max(math.Sqrt(of), 1e-12)
	if !math.IsNaN(relative) && !math.IsInf(relative, 0) {
		c.Relative, c.Largest = &relative, &largest
	}
	return c
}

// settings are a configuration's fields under their names.
func settings(c *Options) map[string]any {
	fields := map[string]any{}
	data, err := yaml.Marshal(c)
	if err == nil {
		err = yaml.Unmarshal(data, &fields)
	}
	if err != nil {
		panic(err) // impossible: the fields are texts and numbers
	}
	return fields
}

func stateSettings(s checkpoint.State) map[string]any {
	return map[string]any{
		"step": s.Step, "epoch": s.Epoch, "position": fmt.Sprintf("epoch %d, offset %d", s.Position.Epoch, s.Position.Offset),
		"samples": s.Samples, "seed": s.Seed, "lr": s.Schedule.LearningRate, "key_momentum": s.Schedule.KeyMomentum,
		"pixpro": s.Versions.PixPro, "go": s.Versions.Go, "device": s.Versions.Device,
	}
}

func compareSettings(a, b map[string]any) []string {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !reflect.DeepEqual(a[name], b[name]) {
			list = append(list, fmt.Sprintf("%s: %v, then %v", name, a[name], b[name]))
		}
	}
	return list
}

//go:build cuda

package cuda

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
	"gorgonia.org/cu"
)

// convolver computes convolutions by cuDNN. A geometry's plan is chosen once, by
// timing, and which it was is kept in a file: the next run has the same bits.
type convolver struct {
	handle  *cudnn.Handle
	plans   map[planKey]*cudnn.Plan // nil: none that may be used
	made    []*cudnn.Plan           // all, to be discarded at the end if they were not before
	file    string                  // of choices; "" if they cannot be kept
	choices map[string]choice       // by geometry
}

// planKey is a geometry.
type planKey struct {
	operation cudnn.Operation
	device.Window
}

// choice is a plan's place in cuDNN's list, and its engine, by which it is known
// again.
type choice struct {
	Place  int   `json:"place"`
	Engine int64 `json:"engine"`
}

// of says whether the choice is one of these plans.
func (c choice) of(plans []*cudnn.Plan) bool {
	return c.Place >= 0 && c.Place < len(plans) && plans[c.Place].Engine == c.Engine
}

// withoutVariable, set to off, leaves cuDNN alone.
const withoutVariable = "PIXPRO_CUDNN"

// candidates are how many plans are timed.
const candidates = 5

// openConvolver opens cuDNN, and says which, or why not: then d.convolver stays nil and
// convolutions are matrix products. What cannot be obeyed is an error.
func (d *Device) openConvolver(driver int, card string, capability int) (state string, err error) {
	wanted := os.Getenv(withoutVariable)
	if wanted != "" && wanted != "off" {
		return "", fmt.Errorf("%s=%q: use off, or leave it unset", withoutVariable, wanted)
	}
	if d.opts.noConvolver || wanted == "off" {
		return "cuDNN left alone", nil
	}
	library, err := cudnn.Open(driver)
	if err != nil {
		return "no cuDNN", nil
	}
	version := "cuDNN " + library.Version()
	handle, err := library.Create(uintptr(unsafe.Pointer(d.stream.C())))
	if err != nil { // such as of a release that does not know the card any more
		return fmt.Sprintf("%s does not start: %v", version, err), nil
	}
	c := &convolver{handle: handle, plans: map[planKey]*cudnn.Plan{}}
	d.opened(handle.Destroy)
	d.opened(func() (err error) {
		for _, p := range c.made {
			err = errors.Join(err, p.Discard())
		}
		return err
	})
	if dir := d.cacheDir(); dir != "" {
		key := sha256.Sum256(fmt.Appendf(nil, "%s, capability %d, driver %d, %s", card, capability, driver, version))
		c.file = filepath.Join(dir, fmt.Sprintf("convolutions-sm%d-%x.json", capability, key[:16]))
	}
	c.choices = c.read()
	d.convolver = c
	return version, nil
}

// read reads the choices of earlier runs; what cannot be read is made anew.
func (c *convolver) read() map[string]choice {
	var choices map[string]choice
	data, err := os.ReadFile(c.file)
	if err != nil || json.Unmarshal(data, &choices) != nil || choices == nil {
		return map[string]choice{}
	}
	return choices
}

// keep writes a choice beside those of other processes, whose choice of the same
// geometry stays, and returns which it is. It fails where nothing can be written.
func (c *convolver) keep(geometry string, mine choice, plans []*cudnn.Plan) (kept choice, err error) {
	if err := os.MkdirAll(filepath.Dir(c.file), 0o777); err != nil {
		return mine, err
	}
	err = atomicfile.WriteToWhenFree(context.Background(), c.file, keepWithin, nil, func(w io.Writer) error {
		choices := c.read()
		if theirs, ok := choices[geometry]; ok && theirs.of(plans) {
			mine = theirs
		}
		choices[geometry] = mine
		data, err := json.MarshalIndent(choices, "", "  ")
		if err == nil {
			_, err = w.Write(append(data, '\n'))
		}
		c.choices = choices
		return err
	})
	return mine, err
}

// keepWithin is how long another process may take to write its choice.
const keepWithin = 10 * time.Second

// convolves says whether cuDNN may compute an operation: that it has no plan for it is
// not known yet.
func (d *Device) convolves(o cudnn.Operation, g *window) bool {
	if d.convolver == nil {
		return false
	}
	plan, known := d.convolver.plans[planKey{o, g.Window}]
	return plan != nil || !known
}

// convolved has cuDNN compute an operation, and says whether it does. x, w and y are
// as in package cudnn, one of them the result.
func (d *Device) convolved(o cudnn.Operation, g *window, x, w, y device.Tensor) bool {
	if !d.convolves(o, g) || d.failure.Load() != nil || x.Len() == 0 || y.Len() == 0 {
		return false
	}
	key := planKey{o, g.Window}
	plan, known := d.convolver.plans[key]
	if !known {
		plan = d.choose(key, x, w, y)
		d.convolver.plans[key] = plan
	}
	if plan == nil {
		return false
	}
	workspace := d.bytes(plan.Workspace)
	defer d.Free(workspace)
	px, pw, py, pworkspace := pointer(x), pointer(w), pointer(y), pointer(workspace)
	name := [...]string{cudnn.Forward: "cudnn forward", cudnn.Data: "cudnn data", cudnn.Weights: "cudnn weights"}[o]
	flops := 2 * int64(y.Rows()) * int64(w.Len())
	d.do(func() error {
		return d.timed(name, size(x)+size(w)+size(y), flops, func() error { return plan.Run(px, pw, py, pworkspace) })
	})
	return true
}

// bytes is memory for so many, absent for none.
func (d *Device) bytes(n int64) device.Tensor {
	if n == 0 {
		return device.Tensor{}
	}
	return d.Alloc(int((n + 3) / 4))
}

// choose finds the plan of a geometry: the one that was chosen before, or the fastest
// of those that cuDNN thinks fast, or, where the choice cannot be kept, the first of
// them that can be run.
func (d *Device) choose(key planKey, x, w, y device.Tensor) *cudnn.Plan {
	c, g := d.convolver, key.Window
	geometry := cudnn.Convolution{
		Images: g.Images, Height: g.Height, Width: g.Width, In: g.Channels, OutHeight: g.OutHeight, OutWidth: g.OutWidth, Out: g.Outs,
		Kernel: g.Kernel, Stride: g.Stride, Padding: g.Padding, Dilation: g.Dilation, Groups: g.Groups,
		BF16: d.half, RoundFactors: d.opts.Precision == device.TF32,
	}
	name := fmt.Sprintf("%d %+v, workspace %d", key.operation, geometry, d.workspace)
	var plans []*cudnn.Plan
	d.wait(func() error {
		// Whatever stands against planning, windows can be gathered.
		plans, _ = c.handle.Plans(key.operation, geometry, d.workspace, candidates)
		c.made = append(c.made, plans...)
		return nil
	})
	if len(plans) == 0 {
		return nil
	}
	best, ok := c.choices[name]
	if !ok || !best.of(plans) {
		first, fastest := d.try(plans, x, w, y)
		if first < 0 || d.failure.Load() != nil {
			return nil
		}
		best = choice{first, plans[first].Engine}
		if c.file != "" {
			if kept, err := c.keep(name, choice{fastest, plans[fastest].Engine}, plans); err == nil {
				best = kept
			}
		}
	}
	d.wait(func() (err error) {
		for i, p := range plans {
			if i != best.Place {
				err = errors.Join(err, p.Discard())
			}
		}
		return err
	})
	return plans[best.Place]
}

// try runs each plan twice on the operands, and tells the first that can be run and
// the one that took the least the second time; -1 if there is none. What is computed
// is computed again afterwards.
func (d *Device) try(plans []*cudnn.Plan, x, w, y device.Tensor) (first, fastest int) {
	first, fastest = -1, -1
	var most int64
	for _, p := range plans {
		most = max(most, p.Workspace)
	}
	workspace := d.bytes(most)
	defer d.Free(workspace)
	px, pw, py, pworkspace := pointer(x), pointer(w), pointer(y), pointer(workspace)
	d.wait(func() (err error) {
		var at [2]cu.Event
		for i := range at {
			if at[i], err = cu.MakeEvent(cu.DefaultEvent); err != nil {
				return fmt.Errorf("create an event: %w", err)
			}
			defer func() { err = errors.Join(err, cu.DestroyEvent(&at[i])) }()
		}
		// run runs a plan, and says whether cuDNN can.
		run := func(p *cudnn.Plan) (can bool, err error) {
			err = p.Run(px, pw, py, pworkspace)
			if status := cudnn.Status(0); errors.As(err, &status) {
				return false, d.finish() // or the card itself is in trouble
			}
			return err == nil, err
		}
		least := math.Inf(1)
		for i, p := range plans {
			if can, err := run(p); err != nil || !can {
				if err != nil {
					return fmt.Errorf("try a convolution: %w", err)
				}
				continue
			}
			if err := at[0].Record(d.stream); err != nil {
				return fmt.Errorf("time a convolution: %w", err)
			}
			if can, err := run(p); err != nil || !can {
				if err != nil {
					return fmt.Errorf("try a convolution: %w", err)
				}
				continue
			}
			if err := at[1].Record(d.stream); err != nil {
				return fmt.Errorf("time a convolution: %w", err)
			}
			if err := d.finish(); err != nil {
				return err
			}
			took, err := at[0].Elapsed(at[1])
			if err != nil {
				return fmt.Errorf("time a convolution: %w", err)
			}
			if first < 0 {
				first = i
			}
			if took < least {
				fastest, least = i, took
			}
		}
		return nil
	})
	return first, fastest
}

//go:build cuda

package cuda

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
	"gorgonia.org/cu"
)

// convolver computes convolutions by cuDNN. A geometry's plan is chosen once, by
// timing, and which it was is kept in a file: the next run has the same bits.
type convolver struct {
	handle *cudnn.Handle
	plans  map[planKey]*cudnn.Plan // nil: none that may be used
	made   []*cudnn.Plan           // all, to be discarded at the end if they were not before
	file   string                  // of choices; "" if they cannot be kept
	// choices are the places of plans in cuDNN's lists, by geometry.
	choices map[string]int
}

// planKey is a geometry.
type planKey struct {
	operation cudnn.Operation
	device.Window
}

// withoutVariable, set to off, leaves cuDNN alone.
const withoutVariable = "PIXPRO_CUDNN"

// candidates are how many plans are timed.
const candidates = 5

// openConvolver opens cuDNN. Without one, d.convolver stays nil and convolutions are
// matrix products.
func (d *Device) openConvolver(driver int, card string, capability int) error {
	if d.opts.noConvolver || os.Getenv(withoutVariable) == "off" {
		return nil
	}
	library, err := cudnn.Open(driver)
	if err != nil {
		return nil
	}
	handle, err := library.Create(uintptr(unsafe.Pointer(d.stream.C())))
	if err != nil {
		return fmt.Errorf("start cuDNN %s of %s: %w (%s=off leaves it alone)", library.Version(), library.Path, err, withoutVariable)
	}
	c := &convolver{handle: handle, plans: map[planKey]*cudnn.Plan{}, choices: map[string]int{}}
	d.opened(handle.Destroy)
	d.opened(func() (err error) {
		for _, p := range c.made {
			err = errors.Join(err, p.Discard())
		}
		return err
	})
	if dir := d.cacheDir(); dir != "" {
		key := sha256.Sum256(fmt.Appendf(nil, "%s, capability %d, driver %d, cuDNN %s, workspace %d", card, capability, driver, library.Version(), d.workspace))
		c.file = filepath.Join(dir, fmt.Sprintf("convolutions-sm%d-%x.json", capability, key[:16]))
		if data, err := os.ReadFile(c.file); err == nil && json.Unmarshal(data, &c.choices) != nil {
			c.choices = map[string]int{} // it is made anew
		}
	}
	d.convolver = c
	return nil
}

// convolved has cuDNN compute an operation, and says whether it does. x, w and y are
// as in package cudnn, one of them the result.
func (d *Device) convolved(o cudnn.Operation, g *window, x, w, y device.Tensor) bool {
	if d.convolver == nil || d.failure.Load() != nil || x.Len() == 0 || y.Len() == 0 {
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
// of those that cuDNN thinks fast, or, where the choice cannot be kept, the first.
func (d *Device) choose(key planKey, x, w, y device.Tensor) *cudnn.Plan {
	c, g := d.convolver, key.Window
	geometry := cudnn.Convolution{
		Images: g.Images, Height: g.Height, Width: g.Width, In: g.Channels, OutHeight: g.OutHeight, OutWidth: g.OutWidth, Out: g.Outs,
		Kernel: g.Kernel, Stride: g.Stride, Padding: g.Padding, Dilation: g.Dilation, Groups: g.Groups,
		BF16: d.half, RoundFactors: d.opts.Precision == device.TF32,
	}
	name := fmt.Sprintf("%d %+v", key.operation, geometry)
	var plans []*cudnn.Plan
	d.wait(func() (err error) {
		if plans, err = c.handle.Plans(key.operation, geometry, d.workspace, candidates); err != nil {
			err = fmt.Errorf("plan a convolution: %w", err)
		}
		c.made = append(c.made, plans...)
		return err
	})
	if len(plans) == 0 {
		return nil
	}
	best, before := c.choices[name]
	if !before || best < -1 || best >= len(plans) {
		best = 0
		if c.file != "" && len(plans) > 1 {
			best = d.fastest(plans, x, w, y)
		}
		if d.failure.Load() != nil {
			return nil // and nothing was found out
		}
		c.choices[name] = best
		if data, err := json.MarshalIndent(c.choices, "", "  "); c.file != "" && err == nil && os.MkdirAll(filepath.Dir(c.file), 0o777) == nil {
			_ = atomicfile.WriteFile(c.file, append(data, '\n')) // else the next run times them again
		}
	}
	d.wait(func() (err error) {
		for i, p := range plans {
			if i != best {
				err = errors.Join(err, p.Discard())
			}
		}
		return err
	})
	if best < 0 {
		return nil
	}
	return plans[best]
}

// fastest runs each plan twice on the operands, and tells which took the least the
// second time, -1 if none can be run. What is computed is computed again afterwards.
func (d *Device) fastest(plans []*cudnn.Plan, x, w, y device.Tensor) (best int) {
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
		least := math.Inf(1)
		best = -1
		for i, p := range plans {
			if err := p.Run(px, pw, py, pworkspace); cudnn.Unsupported(err) {
				continue
			} else if err != nil {
				return fmt.Errorf("try a convolution: %w", err)
			}
			if err := at[0].Record(d.stream); err != nil {
				return fmt.Errorf("time a convolution: %w", err)
			}
			if err := p.Run(px, pw, py, pworkspace); err != nil {
				return fmt.Errorf("try a convolution: %w", err)
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
			if took < least {
				best, least = i, took
			}
		}
		return nil
	})
	return best
}

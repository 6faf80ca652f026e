package train

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-436d2970/pixpro/train/device"
)

// Times is what TimeSteps found.
type Times struct {
	Steps []time.Duration // each of a step, or the mean of a round's; sorted
	// Profile is of one more step: by the device's clock if it is a device.Profiler, else
	// by the times of its operations, one after the other.
	Profile device.Profile
}

// cardRounds is how often a device that queues its work makes the steps.
const cardRounds = 3

// TimeSteps makes steps on one batch without meaning, after some that are not
// timed. A device.Profiler, which queues its work, is waited for once at the end of
// each of three rounds of so many steps, as in training between two of its logs.
func TimeSteps(d device.Device, o Options, steps int) (times Times, err error) {
	if err := o.Validate(); err != nil {
		return times, fmt.Errorf("train: %w", err)
	}
	profiler, card := d.(device.Profiler)
	var timer *operationTimer
	if !card {
		d, timer = timed(d)
	}
	e, err := newEngine(d, &o)
	if err != nil {
		return times, err
	}
	v := meaninglessViews(&o)
	round := func(steps int) (time.Duration, error) {
		start := time.Now()
		for range steps {
			e.repeat(v, 0.99, 0.01, o.Accumulate)
		}
		if err := d.Sync(); err != nil {
			return 0, fmt.Errorf("train: %w", explain(&o, err))
		}
		return time.Since(start) / time.Duration(steps), nil
	}
	if _, err := round(1); err != nil {
		return times, err
	}
	rounds, each := steps, 1
	if card {
		rounds, each = cardRounds, steps
	}
	for range rounds {
		took, err := round(each)
		if err != nil {
			return times, err
		}
		times.Steps = append(times.Steps, took)
	}
	slices.Sort(times.Steps)
	if !card {
		timer.begin()
		e.repeat(v, 0.99, 0.01, o.Accumulate)
		times.Profile = timer.profile()
	} else {
		profiler.StartProfile()
		e.repeat(v, 0.99, 0.01, o.Accumulate)
		if times.Profile, err = profiler.Profile(); err != nil {
			return times, fmt.Errorf("train: %w", err)
		}
	}
	return times, nil
}

// meaninglessViews are a batch of the configured shape of pixels that look like noise.
func meaninglessViews(o *Options) views {
	v := blankViews(o)
	for i := range v.pixels {
		for p := range v.pixels[i] {
			v.pixels[i][p] = uint8(p*7919>>3 ^ p>>9)
		}
	}
	return v
}

// ConvolutionTime is how long a step's convolutions of one geometry take.
type ConvolutionTime struct {
	Images, Height, Width int // of the input
	In, Out               int // channels
	device.Convolution
	Forward, Data, Weights ConvolutionCalls
	Flops                  int64 // of one call of each kind
}

// ConvolutionCalls are a step's calls of a convolution or of a gradient of it.
type ConvolutionCalls struct {
	Calls   int
	Seconds float64 // of one
}

// TimeConvolutions makes steps like TimeSteps and times each convolution in them,
// those of one geometry together, in the order of their first use. The device is
// waited for before and after each, or its own clock is read if it has one.
func TimeConvolutions(d device.Device, o Options, steps int) ([]ConvolutionTime, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	t := &convolutionTimer{Device: d, times: map[convolutionKey]*ConvolutionTime{}}
	t.profiler, _ = d.(device.Profiler)
	e, err := newEngine(t, &o)
	if err != nil {
		return nil, err
	}
	v := meaninglessViews(&o)
	for i := range steps + 1 {
		t.timed = i > 0
		e.repeat(v, 0.99, 0.01, o.Accumulate)
		if err := cmp.Or(t.err, d.Sync()); err != nil {
			return nil, fmt.Errorf("train: %w", explain(&o, err))
		}
	}
	list := make([]ConvolutionTime, len(t.order))
	for i, k := range t.order {
		list[i] = *t.times[k]
		for _, c := range []*ConvolutionCalls{&list[i].Forward, &list[i].Data, &list[i].Weights} {
			if c.Calls > 0 {
				c.Seconds /= float64(c.Calls)
				c.Calls /= steps
			}
		}
	}
	return list, nil
}

// convolutionKey tells geometries apart.
type convolutionKey struct {
	images, height, width, in, out int
	device.Convolution
}

// convolutionTimer is a device that times its convolutions.
type convolutionTimer struct {
	device.Device
	profiler device.Profiler // or nil
	timed    bool
	times    map[convolutionKey]*ConvolutionTime
	order    []convolutionKey
	err      error
}

// of finds the times of a geometry; the input is N x H x W x C.
func (t *convolutionTimer) of(x, y device.Tensor, c device.Convolution) *ConvolutionTime {
	k := convolutionKey{x.Shape[0], x.Shape[1], x.Shape[2], x.Channels(), y.Channels(), c.Explicit()}
	if t.times[k] == nil {
		products := y.Rows() * k.out * k.Kernel * k.Kernel * k.in / k.Groups
		t.times[k] = &ConvolutionTime{
			Images: k.images, Height: k.height, Width: k.width, In: k.in, Out: k.out, Convolution: k.Convolution, Flops: 2 * int64(products),
		}
		t.order = append(t.order, k)
	}
	return t.times[k]
}

func (t *convolutionTimer) time(c *ConvolutionCalls, call func()) {
	if !t.timed || t.err != nil {
		call()
		return
	}
	if t.profiler != nil {
		t.profiler.StartProfile()
		call()
		p, err := t.profiler.Profile()
		t.err = err
		c.Seconds += p.Seconds
	} else {
		t.err = t.Sync()
		start := time.Now()
		call()
		t.err = cmp.Or(t.err, t.Sync())
		c.Seconds += time.Since(start).Seconds()
	}
	c.Calls++
}

// Convolve implements device.Device.
func (t *convolutionTimer) Convolve(y, x, w, bias device.Tensor, c device.Convolution) {
	t.time(&t.of(x, y, c).Forward, func() { t.Device.Convolve(y, x, w, bias, c) })
}

// ConvolveBackwardData implements device.Device.
func (t *convolutionTimer) ConvolveBackwardData(dx, dy, w device.Tensor, c device.Convolution, accumulate bool) {
	t.time(&t.of(dx, dy, c).Data, func() { t.Device.ConvolveBackwardData(dx, dy, w, c, accumulate) })
}

// ConvolveBackwardWeights implements device.Device.
func (t *convolutionTimer) ConvolveBackwardWeights(dw, dbias, dy, x device.Tensor, c device.Convolution) {
	t.time(&t.of(x, dy, c).Weights, func() { t.Device.ConvolveBackwardWeights(dw, dbias, dy, x, c) })
}

package augment

import (
	"fmt"
	"math"
)

// Op is a photometric operation: one that changes colours and moves no pixel.
// Record batches and recipes carry its number or its name, so new ones are added
// at the end.
type Op uint8

// The operations of the colour jitter, in torchvision's numbering, and those
// that RandAugment has besides.
const (
	OpBrightness Op = iota
	OpContrast
	OpSaturation
	OpHue
	OpSharpness
	OpPosterize
	OpSolarize
	OpAutoContrast
	OpEqualize
	opCount

	jitterCount = OpHue + 1 // the colour jitter's come first
)

// operation is all that the package knows of an Op besides the code that does it.
type operation struct {
	name    string // in JSON, in captions and in measurements
	factor  factor
	typical float64 // factor that measurements take

	jitter *jitter // nil: not one of the colour jitter's

	// magnitude is the factor at a magnitude of RandAugment, 0 to
	// maxRandMagnitude; negative asks for the weaker of two directions, where
	// there are two. nil: not one of RandAugment's.
	magnitude func(magnitude int, negative bool) float64

	apply func(p Planes, factor float64, s *Scratch)
}

// operations is the one table of them, by Op. What lists, names, reads, checks,
// draws, describes or measures operations goes by it.
var operations = [opCount]operation{
	OpBrightness: {
		name: "brightness", factor: blendFactor, typical: 1.2, jitter: &aroundOne, magnitude: blendMagnitude,
		apply: func(p Planes, factor float64, _ *Scratch) { p.Brightness(factor) },
	},
	OpContrast: {
		name: "contrast", factor: blendFactor, typical: 1.2, jitter: &aroundOne, magnitude: blendMagnitude,
		apply: func(p Planes, factor float64, _ *Scratch) { p.Contrast(factor) },
	},
	OpSaturation: {
		name: "saturation", factor: blendFactor, typical: 1.2, jitter: &aroundOne, magnitude: blendMagnitude,
		apply: func(p Planes, factor float64, _ *Scratch) { p.Saturation(factor) },
	},
	OpHue: {
		name: "hue", factor: turns, typical: 0.05, jitter: &aroundZero,
		apply: func(p Planes, factor float64, _ *Scratch) { p.Hue(factor) },
	},
	OpSharpness: {
		name: "sharpness", factor: blendFactor, typical: 1.2, magnitude: blendMagnitude,
		apply: func(p Planes, factor float64, s *Scratch) { p.Sharpness(factor, s) },
	},
	OpPosterize: {
		name: "posterize", factor: keptBits, typical: 4, magnitude: bitsMagnitude,
		apply: func(p Planes, factor float64, _ *Scratch) { p.Posterize(int(factor)) },
	},
	OpSolarize: {
		name: "solarize", factor: threshold, typical: SolarizeThreshold, magnitude: thresholdMagnitude,
		apply: func(p Planes, factor float64, _ *Scratch) { p.solarizeFrom(factor) },
	},
	OpAutoContrast: {
		name: "autocontrast", factor: noFactor, magnitude: noMagnitude,
		apply: func(p Planes, _ float64, _ *Scratch) { p.AutoContrast() },
	},
	OpEqualize: {
		name: "equalize", factor: noFactor, magnitude: noMagnitude,
		apply: func(p Planes, _ float64, _ *Scratch) { p.Equalize() },
	},
}

// randAugment are RandAugment's operations in torchvision's order, which is the
// order that random numbers count in.
var randAugment = [...]Op{OpBrightness, OpSaturation, OpContrast, OpSharpness, OpPosterize, OpSolarize, OpAutoContrast, OpEqualize}

// factor is what an operation's factor means and may be.
type factor struct {
	lo, hi  float64
	whole   bool
	caption func(factor float64) string // nil: the operation has none, the factor is 0
}

var (
	// blendFactor goes from 0, where the operation leaves least of the view,
	// through 1, which changes nothing, beyond it.
	blendFactor = factor{hi: math.MaxFloat32, caption: func(f float64) string { return fmt.Sprintf("×%.2f", f) }}
	// turns are parts of the colour circle.
	turns = factor{lo: -0.5, hi: 0.5, caption: func(f float64) string { return fmt.Sprintf("%+.1f°", 360*f) }}
	// keptBits are the high bits of each sample that stay as they are.
	keptBits = factor{hi: 8, whole: true, caption: func(f float64) string {
		if f == 1 {
			return "to 1 bit"
		}
		return fmt.Sprintf("to %v bits", f)
	}}
	// threshold is the value from which on samples are inverted; at 256 none is.
	threshold = factor{hi: 256, caption: func(f float64) string { return fmt.Sprintf("from %.4g", f) }}
	noFactor  = factor{}
)

// jitter says how the colour jitter draws a factor at a strength.
type jitter struct {
	maxStrength float64
	factors     func(strength float64) Range
}

var (
	aroundOne  = jitter{math.MaxFloat32 / 2, func(x float64) Range { return Range{max(1-x, 0), 1 + x} }}
	aroundZero = jitter{0.5, func(x float64) Range { return Range{-x, x} }}
)

// maxRandMagnitude is the largest magnitude of RandAugment: torchvision's
// num_magnitude_bins less one.
const maxRandMagnitude = 30

func blendMagnitude(magnitude int, negative bool) float64 {
	strength := 0.9 * float64(magnitude) / maxRandMagnitude
	if negative {
		return 1 - strength
	}
	return 1 + strength
}

func bitsMagnitude(magnitude int, _ bool) float64 {
	return 8 - math.RoundToEven(4*float64(magnitude)/maxRandMagnitude)
}

func thresholdMagnitude(magnitude int, _ bool) float64 {
	return float64(255*(maxRandMagnitude-magnitude)) / maxRandMagnitude
}

func noMagnitude(int, bool) float64 { return 0 }

// Operations lists all photometric operations.
func Operations() []Op {
	ops := make([]Op, opCount)
	for i := range ops {
		ops[i] = Op(i)
	}
	return ops
}

func (o Op) String() string {
	if o < opCount {
		return operations[o].name
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// MarshalText returns the operation's name.
func (o Op) MarshalText() ([]byte, error) {
	if o >= opCount {
		return nil, o.unknown()
	}
	return []byte(operations[o].name), nil
}

// UnmarshalText sets the operation by its name.
func (o *Op) UnmarshalText(text []byte) error {
	var names [opCount]string
	for i := range operations {
		if string(text) == operations[i].name {
			*o = Op(i)
			return nil
		}
		names[i] = operations[i].name
	}
	return fmt.Errorf("augment: no operation is called %q; there are %q", text, names)
}

func (o Op) unknown() error {
	return fmt.Errorf("augment: no operation has the number %d, they are 0 to %d", uint8(o), opCount-1)
}

// Typical is the operation with a factor that recipes often draw, for
// measurements.
func (o Op) Typical() Jitter {
	if o >= opCount {
		return Jitter{Op: o}
	}
	return Jitter{Op: o, Factor: operations[o].typical}
}

// Jitter is one operation with its factor: at least 0 and neutral at 1 for
// brightness, contrast, saturation and sharpness; for the hue -0.5 to 0.5 turns of
// the colour circle; for posterize the bits that are kept, a whole number from 0
// to 8; for solarize the threshold, 0 to 256; 0 for autocontrast and equalize,
// which have none.
type Jitter struct {
	Op     Op      `json:"op"`
	Factor float64 `json:"factor"`
}

// String says what is done, as in "contrast ×1.20", "hue -14.9°", "posterize to 4
// bits", "equalize".
func (j Jitter) String() string {
	if j.Op >= opCount || operations[j.Op].factor.caption == nil {
		return j.Op.String()
	}
	return j.Op.String() + " " + operations[j.Op].factor.caption(j.Factor)
}

// Validate reports whether the operation exists and can have the factor.
func (j Jitter) Validate() error {
	if j.Op >= opCount {
		return j.Op.unknown()
	}
	f := &operations[j.Op].factor
	if !(f.lo <= j.Factor && j.Factor <= f.hi) {
		return fmt.Errorf("augment: %v factor %v, must be from %v to %v", j.Op, j.Factor, f.lo, f.hi)
	}
	if f.whole && j.Factor != math.Trunc(j.Factor) {
		return fmt.Errorf("augment: %v factor %v, must be a whole number", j.Op, j.Factor)
	}
	return nil
}

// Apply does the operation in place. It panics if Validate reports an error.
func (j Jitter) Apply(p Planes, s *Scratch) {
	if err := j.Validate(); err != nil {
		panic(err.Error())
	}
	operations[j.Op].apply(p, j.Factor, s)
}

//go:build linux

// Package cudnn is a thin binding of the parts of cuDNN 9 that training needs: single
// convolutions and their gradients, of which it lists the ways to compute them
// ("engines" of its backend interface). It is opened at run time.
package cudnn

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
)

// Status is an error of cuDNN.
type Status int32

// DeviceAllocationFailed is the status of a call that found no memory on the card.
const DeviceAllocationFailed Status = 4004

func (s Status) Error() string {
	name, ok := map[Status]string{
		1001: "NOT_INITIALIZED", 1002: "SUBLIBRARY_VERSION_MISMATCH", 1008: "SUBLIBRARY_LOADING_FAILED", 2000: "BAD_PARAM",
		3000: "NOT_SUPPORTED", 4000: "INTERNAL_ERROR", 4003: "HOST_ALLOCATION_FAILED", DeviceAllocationFailed: "DEVICE_ALLOCATION_FAILED",
		5000: "EXECUTION_FAILED",
	}[s]
	if !ok {
		return fmt.Sprintf("cuDNN status %d", int32(s))
	}
	return "cuDNN status " + name
}

// Library is an open cuDNN.
type Library struct {
	*toolkit.Library
	create, destroy, setStream, version          uintptr
	describe, discard, set, get, finish, execute uintptr
}

// Open opens the cuDNN that goes with a driver, see toolkit.Kind.Open.
func Open(driver int) (*Library, error) {
	opened, err := toolkit.CuDNN.Open(driver)
	if err != nil {
		return nil, err
	}
	l := &Library{Library: opened}
	return l, opened.Symbols(map[string]*uintptr{
		"cudnnCreate": &l.create, "cudnnDestroy": &l.destroy, "cudnnSetStream": &l.setStream, "cudnnGetVersion": &l.version,
		"cudnnBackendCreateDescriptor": &l.describe, "cudnnBackendDestroyDescriptor": &l.discard, "cudnnBackendSetAttribute": &l.set,
		"cudnnBackendGetAttribute": &l.get, "cudnnBackendFinalize": &l.finish, "cudnnBackendExecute": &l.execute,
	})
}

//go:uintptrescapes
func call(function uintptr, args ...uintptr) error {
	if status, _, _ := purego.SyscallN(function, args...); int32(status) != 0 {
		return Status(int32(status))
	}
	return nil
}

// Version is major, minor and patch of the library.
func (l *Library) Version() string {
	v, _, _ := purego.SyscallN(l.version)
	return fmt.Sprintf("%d.%d.%d", v/10000, v%10000/100, v%100)
}

// Handle is a cuDNN context, bound to the CUDA context that it was made in.
type Handle struct {
	library *Library
	handle  uintptr
}

// Create makes a handle whose work is done on a stream of the driver's.
func (l *Library) Create(stream uintptr) (*Handle, error) {
	h := &Handle{library: l}
	if err := call(l.create, uintptr(unsafe.Pointer(&h.handle))); err != nil {
		return nil, err
	}
	if err := call(l.setStream, h.handle, stream); err != nil {
		return nil, errors.Join(err, h.Destroy())
	}
	return h, nil
}

// Destroy gives it up.
func (h *Handle) Destroy() error { return call(h.library.destroy, h.handle) }

// Operation is what a plan computes.
type Operation int

// A convolution, and its gradients.
const (
	Forward Operation = iota // y of x and w
	Data                     // x of y and w
	Weights                  // w of x and y
)

// Convolution is the geometry of a convolution with square windows. x is Images x
// Height x Width x In, y Images x OutHeight x OutWidth x Out, and w Out x Kernel x
// Kernel x In / Groups.
type Convolution struct {
	Images, Height, Width, In int
	OutHeight, OutWidth, Out  int
	Kernel, Stride, Padding   int
	Dilation, Groups          int
	BF16                      bool // of x, y and w, but for a gradient of w; else float32
	RoundFactors              bool // float32 factors may be rounded to TF32
}

// Numerical notes of engines, as cuDNN numbers them.
const (
	noteTensorCore = iota
	noteDownConvert
	noteReducedReduction
	noteFFT
	noteNondeterministic
	noteWinograd
	noteWinograd4
	noteWinograd6
	noteWinograd13
	notes = 16 // more than there are
)

// Names of attributes, types of them, and kinds of descriptors, as cuDNN numbers
// them.
const (
	typeHandle, typeData, typeInt64, typeFloat, typePointer = 0, 1, 3, 4, 6
	typeMode, typeHeuristic, typeNote, typeDescriptor       = 7, 8, 11, 15

	kindConvolution, kindEngine, kindConfiguration, kindHeuristic, kindPlan = 1, 2, 3, 4, 5
	kindForward, kindWeights, kindData, kindGraph, kindPack, kindTensor     = 10, 11, 12, 15, 16, 17

	dataFloat, dataBF16     = 0, 9
	crossCorrelation, modeA = 1, 3
	idX, idY, idW           = 'x', 'y', 'w'
	alignment               = 16
	attributeResults        = 202
	attributeEngine         = 300
	attributeIndex          = 1301
	attributeNotes          = 1303
	attributeWorkspace      = 402
)

// descriptor is one of cuDNN's.
type descriptor uintptr

// attribute is a value of one.
type attribute struct {
	name, kind int
	count      int
	data       unsafe.Pointer
}

func ints(name int, v ...int64) attribute {
	return attribute{name, typeInt64, len(v), unsafe.Pointer(&v[0])}
}

// enum is an enumeration of 32 bits.
func enum(name, kind int, v int32) attribute { return attribute{name, kind, 1, unsafe.Pointer(&v)} }

func float(name int, v float32) attribute {
	return attribute{name, typeFloat, 1, unsafe.Pointer(&v)}
}

func descriptors(name int, v ...descriptor) attribute {
	return attribute{name, typeDescriptor, len(v), unsafe.Pointer(&v[0])}
}

func pointers(name int, v ...uintptr) attribute {
	return attribute{name, typePointer, len(v), unsafe.Pointer(&v[0])}
}

// builder makes descriptors and keeps them until they are given up together.
type builder struct {
	library *Library
	made    []descriptor
}

// empty makes a descriptor for cuDNN to fill in.
func (b *builder) empty(kind int) (descriptor, error) {
	var d descriptor
	if err := call(b.library.describe, uintptr(kind), uintptr(unsafe.Pointer(&d))); err != nil {
		return 0, err
	}
	b.made = append(b.made, d)
	return d, nil
}

// add makes a descriptor of attributes.
func (b *builder) add(kind int, attributes ...attribute) (descriptor, error) {
	d, err := b.empty(kind)
	if err != nil {
		return 0, err
	}
	for _, a := range attributes {
		if err := call(b.library.set, uintptr(d), uintptr(a.name), uintptr(a.kind), uintptr(a.count), uintptr(a.data)); err != nil {
			return 0, fmt.Errorf("attribute %d: %w", a.name, err)
		}
	}
	return d, call(b.library.finish, uintptr(d))
}

// read gets up to count values of an attribute into data, and returns how many
// there are.
func (b *builder) read(d descriptor, name, kind, count int, data unsafe.Pointer) (int, error) {
	var n int64
	err := call(b.library.get, uintptr(d), uintptr(name), uintptr(kind), uintptr(count), uintptr(unsafe.Pointer(&n)), uintptr(data))
	return int(n), err
}

// discard gives all descriptors up.
func (b *builder) discard() (err error) {
	for _, d := range slices.Backward(b.made) {
		err = errors.Join(err, call(b.library.discard, uintptr(d)))
	}
	b.made = nil
	return err
}

// Plan is a way to compute an operation.
type Plan struct {
	// Engine is its number among cuDNN's.
	Engine int64
	// Workspace is how many bytes of the card's memory it takes besides.
	Workspace int64
	handle    *Handle
	plan      descriptor
	parts     builder
}

// Discard gives the plan up, if that was not done before.
func (p *Plan) Discard() error { return p.parts.discard() }

// Plans lists ways to compute an operation, the fastest by cuDNN's own estimate
// first, at most so many: such that take no more workspace than that, whose results
// have the same bits every time, and that round no more than c allows. What cuDNN
// lists and cannot make ready is passed over. The error says why it lists nothing.
func (h *Handle) Plans(o Operation, c Convolution, workspace int64, most int) (plans []*Plan, err error) {
	b := &builder{library: h.library}
	configurations, err := h.configurations(b, o, c)
	if err = errors.Join(err, b.discard()); err != nil {
		return nil, err
	}
	for i := range configurations {
		if len(plans) == most {
			break
		}
		p := &Plan{handle: h, parts: builder{library: h.library}}
		usable, planErr := p.make(o, c, i)
		if planErr == nil && usable && p.Workspace <= workspace {
			plans = append(plans, p)
			continue
		}
		err = errors.Join(err, p.Discard())
	}
	return plans, err
}

// make makes the plan of the i-th configuration, with descriptors of its own, and
// says whether its engine may be used.
func (p *Plan) make(o Operation, c Convolution, i int) (usable bool, err error) {
	b := &p.parts
	configurations, err := p.handle.configurations(b, o, c)
	if err != nil || i >= len(configurations) {
		return false, err
	}
	engine, err := b.empty(kindEngine)
	if err != nil {
		return false, err
	}
	if _, err := b.read(configurations[i], attributeEngine, typeDescriptor, 1, unsafe.Pointer(&engine)); err != nil {
		return false, err
	}
	var of [notes]int32
	n, err := b.read(engine, attributeNotes, typeNote, len(of), unsafe.Pointer(&of[0]))
	if err != nil {
		return false, err
	}
	for _, note := range of[:min(n, len(of))] {
		switch note {
		case noteNondeterministic, noteReducedReduction, noteFFT, noteWinograd, noteWinograd4, noteWinograd6, noteWinograd13:
			return false, nil
		case noteDownConvert: // to what, cuDNN does not say
			if !c.BF16 {
				return false, nil
			}
		case noteTensorCore:
			if !c.BF16 && !c.RoundFactors {
				return false, nil
			}
		}
	}
	if _, err := b.read(engine, attributeIndex, typeInt64, 1, unsafe.Pointer(&p.Engine)); err != nil {
		return false, err
	}
	p.plan, err = b.add(kindPlan, attribute{400, typeHandle, 1, unsafe.Pointer(&p.handle.handle)}, descriptors(401, configurations[i]))
	if err != nil {
		return false, err
	}
	_, err = b.read(p.plan, attributeWorkspace, typeInt64, 1, unsafe.Pointer(&p.Workspace))
	return err == nil, err
}

// configurations describes the operation and has cuDNN list engines for it.
func (h *Handle) configurations(b *builder, o Operation, c Convolution) ([]descriptor, error) {
	var failed error
	add := func(kind int, attributes ...attribute) descriptor {
		if failed != nil {
			return 0
		}
		d, err := b.add(kind, attributes...)
		failed = err
		return d
	}
	tensor := func(id int64, bf16 bool, n, height, width, channels int) descriptor {
		data := int32(dataFloat)
		if bf16 {
			data = dataBF16
		}
		// Channels come last: the strides say so, dimensions are always N, C, H, W.
		return add(kindTensor, ints(900, alignment), enum(901, typeData, data), ints(906, id),
			ints(902, int64(n), int64(channels), int64(height), int64(width)),
			ints(903, int64(height)*int64(width)*int64(channels), 1, int64(width)*int64(channels), int64(channels)))
	}
	x := tensor(idX, c.BF16, c.Images, c.Height, c.Width, c.In)
	y := tensor(idY, c.BF16, c.Images, c.OutHeight, c.OutWidth, c.Out)
	w := tensor(idW, c.BF16 && o != Weights, c.Out, c.Kernel, c.Kernel, c.In/c.Groups)
	pair := func(name, v int) attribute { return ints(name, int64(v), int64(v)) }
	convolution := add(kindConvolution, enum(100, typeData, dataFloat), enum(101, typeMode, crossCorrelation), ints(106, 2),
		pair(102, c.Dilation), pair(103, c.Stride), pair(104, c.Padding), pair(105, c.Padding))
	var operation descriptor
	switch o {
	case Forward:
		operation = add(kindForward, float(700, 1), float(701, 0), descriptors(702, convolution), descriptors(703, w), descriptors(704, x), descriptors(705, y))
	case Data:
		operation = add(kindData, float(706, 1), float(707, 0), descriptors(708, convolution), descriptors(709, w), descriptors(710, x), descriptors(711, y))
	default:
		operation = add(kindWeights, float(712, 1), float(713, 0), descriptors(714, convolution), descriptors(715, w), descriptors(716, x), descriptors(717, y))
	}
	handle := attribute{800, typeHandle, 1, unsafe.Pointer(&h.handle)}
	graph := add(kindGraph, handle, descriptors(801, operation))
	heuristic := add(kindHeuristic, descriptors(201, graph), enum(200, typeHeuristic, modeA))
	if failed != nil {
		return nil, failed
	}
	n, err := b.read(heuristic, attributeResults, typeDescriptor, 0, nil)
	if err != nil || n <= 0 {
		return nil, err
	}
	list := make([]descriptor, n)
	for i := range list {
		if list[i], err = b.empty(kindConfiguration); err != nil {
			return nil, err
		}
	}
	n, err = b.read(heuristic, attributeResults, typeDescriptor, n, unsafe.Pointer(&list[0]))
	return list[:min(n, len(list))], err
}

// Run queues the operation on tensors in the card's memory.
func (p *Plan) Run(x, w, y, workspace uintptr) (err error) {
	b := builder{library: p.handle.library}
	defer func() { err = errors.Join(err, b.discard()) }()
	pack, err := b.add(kindPack, ints(1000, idX, idW, idY), pointers(1001, x, w, y), pointers(1003, workspace))
	if err != nil {
		return err
	}
	return call(p.handle.library.execute, p.handle.handle, uintptr(p.plan), uintptr(pack))
}

// Package device defines what training computes with.
//
// A Device owns memory and offers the field's primitives: convolution, batch
// normalisation with its ReLU and residual, pooling, channel normalisation,
// pixel propagation, the parts that losses are composed of (Primitives), and the
// updates of the optimiser and of the key encoder. How one is computed is the
// device's business. A device may also have whole losses (FusedLosses), or time
// its kernels (Profiler). Activations are N x H x W x C; a convolution's weights
// are Cout x K x K x Cin.
//
// A call may return before its work is done: work happens in the order of the
// calls, Download waits for what it reads, and Sync waits for everything. Calls
// return no error; the first failure is kept, nothing is computed after it, and
// Sync and Err return it. A shape that does not fit panics, being a programmer's
// error. A device is used by one goroutine at a time.
package device

import "fmt"

// Memory is a device's handle to an allocation.
type Memory interface {
	Floats() int // capacity in float32
}

// Tensor is a dense row-major float32 array in a device's memory. The zero
// Tensor stands for an argument that is not there.
type Tensor struct {
	Shape  []int
	Memory Memory
}

// Exists says whether t is not the zero Tensor.
func (t Tensor) Exists() bool { return t.Memory != nil }

// Len is the number of elements.
func (t Tensor) Len() int { return Elements(t.Shape) }

// Channels is the size of the last dimension.
func (t Tensor) Channels() int { return t.Shape[len(t.Shape)-1] }

// Rows is the number of elements over Channels.
func (t Tensor) Rows() int { return t.Len() / t.Channels() }

// Elements is the product of the dimensions.
func Elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Convolution is the geometry of a square convolution or pooling window.
type Convolution struct {
	Kernel, Stride, Padding int
	Dilation                int // distance of the window's pixels; 0 stands for 1
	Groups                  int // parts of the channels that see one another; 0 stands for 1
}

// Explicit returns the geometry with 1 where 0 stands for it.
func (c Convolution) Explicit() Convolution {
	c.Dilation, c.Groups = max(c.Dilation, 1), max(c.Groups, 1)
	return c
}

// Output is the number of windows along a side of the given length.
func (c Convolution) Output(side int) int {
	c = c.Explicit()
	return (side+2*c.Padding-c.Dilation*(c.Kernel-1)-1)/c.Stride + 1
}

// BatchNorm is batch normalisation over the rows of each of Views equal parts
// of the batch, the views, followed by the residual, if there is one, and by
// ReLU, if it is asked for:
//
//	y = relu(Weight * (x - mean) / sqrt(var + Epsilon) + Bias + residual)
type BatchNorm struct {
	Weight, Bias             Tensor // C
	RunningMean, RunningVar  Tensor // C; updated once a view, in order; the variance unbiased
	SavedMean, SavedInvStd   Tensor // Views x C; written forward, read backward
	WeightGrad, BiasGrad     Tensor // C; added to by the backward pass
	Views                    int
	Epsilon, RunningMomentum float64
	ReLU                     bool
	Residual                 bool // there is one: what passes the ReLU cannot be told from x
}

// Propagation is the pixel propagation module without its value transform
// (eq. 3 and 4 of the paper): y_i = sum_j max(u_i . u_j, Clamp)^Gamma g_j over
// the cells j of the same image; 1e-6 is added to the base where Gamma < 1.
type Propagation struct {
	Gamma, Clamp float64
}

// Matching says which cells of the query maps match which of the key maps.
// Image i's keys are those of image (i + KeyShift) mod N; its loss counts
// Scale times.
type Matching struct {
	CoordQ, CoordK Tensor  // N x 4: x0, y0, x1, y1 of each crop; CoordK as the keys lie
	Threshold      float64 // positives are nearer than this many larger cell diagonals
	KeyShift       int
	Scale          float64
}

// Update is one step of SGD with momentum, with layer-wise adaptive rates (LARS,
// You et al. 2017) if it adapts. With g' = g + WeightDecay * p, scaled by Trust *
// |p| / (|g'| + Epsilon) if it Adapts and neither length is 0,
//
//	buffer = Momentum * buffer + g';  p = p - LearningRate * buffer
type Update struct {
	LearningRate, Momentum, WeightDecay float64
	Adapt                               bool
	Trust, Epsilon                      float64
}

// Device computes. See the package comment for what all methods have in common.
type Device interface {
	Name() string
	// Sync waits for everything and returns the first failure so far.
	Sync() error
	// Err returns the first failure so far without waiting. After a Download it
	// is final for all that the downloaded values depend on.
	Err() error
	// Close frees everything.
	Close() error

	// Alloc returns a float32 tensor of undefined content.
	Alloc(shape ...int) Tensor
	// AllocActivation returns a tensor of undefined content for the values
	// between layers and their gradients, which a device may keep in half
	// precision. Views, inputs and outputs of convolutions, batch norms and
	// pools, and what propagation makes are such tensors, as are their gradients;
	// all others are of Alloc.
	AllocActivation(shape ...int) Tensor
	// Free gives a tensor's memory back; no other tensor may share it.
	Free(t Tensor)
	Zero(t Tensor)
	Upload(dst Tensor, src []float32)
	Download(dst []float32, src Tensor)
	// Add computes dst += src, both of one kind.
	Add(dst, src Tensor)

	// UploadViews writes both views, each N x 3 x H x W of 0..255, to dst,
	// 2N x H x W x 3, as (pixel/255 - mean) / std.
	UploadViews(dst Tensor, views [2][]uint8, mean, std [3]float64)

	// Convolve computes y from x and the weights w; bias may be absent.
	Convolve(y, x, w, bias Tensor, c Convolution)
	// ConvolveBackwardData computes the gradient of x, or adds it to dx.
	ConvolveBackwardData(dx, dy, w Tensor, c Convolution, accumulate bool)
	// ConvolveBackwardWeights adds the gradients of w and, unless absent, bias.
	ConvolveBackwardWeights(dw, dbias, dy, x Tensor, c Convolution)

	// BatchNorm normalises with the batch's statistics and updates the running
	// ones; residual may be absent.
	BatchNorm(y, x, residual Tensor, b *BatchNorm)
	// BatchNormInference normalises with the running statistics.
	BatchNormInference(y, x, residual Tensor, b *BatchNorm)
	// BatchNormBackward computes dx, which may be dy itself, and adds to the
	// gradients of weight and bias. Unless they are the same, dy is
	// overwritten by its part that passes the ReLU: the residual's gradient.
	BatchNormBackward(dx, dy, x, y Tensor, b *BatchNorm)

	// MaxPool takes the maximum of each window; padding counts as -infinity.
	MaxPool(y, x Tensor, c Convolution)
	// MaxPoolBackward computes dx; the first maximum of a window gets its gradient.
	MaxPoolBackward(dx, dy, x, y Tensor, c Convolution)

	// AveragePool takes the mean of each window; there is no padding.
	AveragePool(y, x Tensor, c Convolution)
	// AveragePoolBackward computes dx.
	AveragePoolBackward(dx, dy Tensor, c Convolution)

	// Normalize divides each row of x, an activation, by its length (at least
	// 1e-12), kept in norms.
	Normalize(y, norms, x Tensor)
	// NormalizeBackward computes dx, an activation.
	NormalizeBackward(dx, dy, y, norms Tensor)

	// Propagate computes y, N x H x W x C, from unit vectors u and values g,
	// and keeps the cosines, N x HW x HW. y is an activation.
	Propagate(y, cosines, u, g Tensor, p Propagation)
	// PropagateBackward computes du and dg.
	PropagateBackward(du, dg, dy, cosines, u, g Tensor, p Propagation)

	// Update moves parameter p and its momentum buffer by gradient g.
	Update(p, buffer, g Tensor, u Update)
	// MovingAverage computes key = momentum * key + (1 - momentum) * query.
	MovingAverage(key, query Tensor, momentum float64)

	Primitives
}

// FusedLosses is a device with whole losses as operations of its own, which take
// less time and memory than the primitives that package nn else composes them
// of. Queries and keys are unit vectors.
type FusedLosses interface {
	// PixProLoss writes each image's loss, -2 Scale times the mean cosine of its
	// positive pairs, and the gradient of q. q and k are unit vectors, N x H x W x C.
	PixProLoss(losses, dq, q, k Tensor, m Matching)
	// PixContrastLoss is the same for Scale times eq. 2 of the paper with
	// temperature tau, averaged over the cells of q that have a positive.
	PixContrastLoss(losses, dq, q, k Tensor, m Matching, tau float64)

	// SimilarityLoss is the instance loss of BYOL: each image's is -2 Scale times
	// the product of its unit vector in q, N x C, with that of its key. Of m it
	// uses Scale and KeyShift.
	SimilarityLoss(losses, dq, q, k Tensor, m Matching)
	// InfoNCELoss is the instance loss of contrastive learning: Scale times the
	// cross entropy, at temperature tau, of finding an image's key among those
	// of the same view, N/2 of them. Of m it uses Scale and KeyShift, N/2.
	InfoNCELoss(losses, dq, q, k Tensor, m Matching, tau float64)
}

// OutOfMemoryError is the failure of an allocation.
type OutOfMemoryError struct {
	Device                   string
	Needed, InUse, Available int64 // bytes; Needed is 0 if it was not for a tensor; Available is what tensors may take in all
}

func (e *OutOfMemoryError) Error() string {
	if e.Needed == 0 {
		return fmt.Sprintf("%s has no memory left beside tensors, which have %.2f GiB of %.2f GiB",
			e.Device, float64(e.InUse)/(1<<30), float64(e.Available)/(1<<30))
	}
	return fmt.Sprintf("%s has no %.1f MiB for another tensor: %.2f GiB are in use of %.2f GiB",
		e.Device, float64(e.Needed)/(1<<20), float64(e.InUse)/(1<<30), float64(e.Available)/(1<<30))
}

// KernelTime is how often a kernel ran, for how long, and how much memory it
// read and wrote.
type KernelTime struct {
	Name    string
	Calls   int
	Seconds float64
	Bytes   int64
	Flops   int64
}

// Profile is what ran in a time, as the device's own clock saw it.
type Profile struct {
	Kernels []KernelTime // the longest first
	Seconds float64      // from the first's start to the last's end
	// PeakBytes is the most memory that tensors took since the device was opened.
	PeakBytes int64
}

// Profiler is a device that can time its kernels.
type Profiler interface {
	// StartProfile forgets what was measured so far.
	StartProfile()
	// Profile waits for everything, stops the measurement, and tells what ran
	// since StartProfile.
	Profile() (Profile, error)
}

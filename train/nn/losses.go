package nn

import "github.com/seed-436d2970/pixpro/train/device"

// The losses below compare unit vectors of queries and keys, of which they
// consume both. Each returns every image's loss, which the caller frees, and
// puts the gradient of their sum on the queries. A device that has them as
// operations of its own (device.FusedLosses) computes them so, and others by
// the primitives.

// PixProLoss is that of device.FusedLosses.
func PixProLoss(t *Tape, q, k *Var, m device.Matching) device.Tensor {
	if f, ok := t.Device.(device.FusedLosses); ok {
		return fused(t, q, k, func(losses, dq device.Tensor) { f.PixProLoss(losses, dq, q.Value, k.Value, m) })
	}
	images := q.Value.Shape[0]
	cosines, mask := matched(t, q, k, m)
	pairs := cosines.Value.Len() / max(images, 1)
	return composed(t, Combine(t, -2*m.Scale, Mean(t, Reshape(t, cosines, images, pairs), Reshape(t, mask, images, pairs)), 0, nil))
}

// PixContrastLoss is that of device.FusedLosses.
func PixContrastLoss(t *Tape, q, k *Var, m device.Matching, tau float64) device.Tensor {
	if f, ok := t.Device.(device.FusedLosses); ok {
		return fused(t, q, k, func(losses, dq device.Tensor) { f.PixContrastLoss(losses, dq, q.Value, k.Value, m, tau) })
	}
	cosines, mask := matched(t, q, k, m)
	some := Mean(t, mask.Retain(), nil) // above 0 for the cells that have a positive
	all := LogSumExp(t, cosines.Retain(), nil, tau)
	inside := LogSumExp(t, cosines, mask, tau)
	return composed(t, Combine(t, m.Scale, Mean(t, Combine(t, 1, all, -1, inside), some), 0, nil))
}

// matched are the cosines of each image's query cells (rows) with its key cells,
// N x HW x HW, and the mask of positive pairs.
func matched(t *Tape, q, k *Var, m device.Matching) (cosines, mask *Var) {
	s := q.Value.Shape
	mask = Positives(t, s[0], s[1], s[2], m)
	k = Roll(t, k, m.KeyShift)
	return Multiply(t, Reshape(t, q, s[0], s[1]*s[2], s[3]), Reshape(t, k, s[0], s[1]*s[2], s[3]), true), mask
}

// SimilarityLoss is that of device.FusedLosses.
func SimilarityLoss(t *Tape, q, k *Var, m device.Matching) device.Tensor {
	if f, ok := t.Device.(device.FusedLosses); ok {
		return fused(t, q, k, func(losses, dq device.Tensor) { f.SimilarityLoss(losses, dq, q.Value, k.Value, m) })
	}
	return composed(t, Combine(t, -2*m.Scale, RowProducts(t, q, Roll(t, k, m.KeyShift)), 0, nil))
}

// InfoNCELoss is that of device.FusedLosses.
func InfoNCELoss(t *Tape, q, k *Var, m device.Matching, tau float64) device.Tensor {
	if f, ok := t.Device.(device.FusedLosses); ok {
		return fused(t, q, k, func(losses, dq device.Tensor) { f.InfoNCELoss(losses, dq, q.Value, k.Value, m, tau) })
	}
	c := q.Value.Channels()
	k = Roll(t, k, m.KeyShift) // each view's keys are now those of the other one
	own := RowProducts(t, q.Retain(), k.Retain())
	cosines := Multiply(t, Reshape(t, q, 2, m.KeyShift, c), Reshape(t, k, 2, m.KeyShift, c), true)
	all := LogSumExp(t, Reshape(t, cosines, 2*m.KeyShift, m.KeyShift), nil, tau)
	return composed(t, Combine(t, m.Scale, all, -m.Scale/tau, own))
}

// fused has the device compute losses and the queries' gradient.
func fused(t *Tape, q, k *Var, compute func(losses, dq device.Tensor)) device.Tensor {
	losses, dq := t.Device.Alloc(q.Value.Shape[0]), t.Device.Alloc(q.Value.Shape...)
	compute(losses, dq)
	q.AddGrad(dq)
	q.Release()
	k.Release()
	return losses
}

// composed takes losses from the tape and gives each a gradient of 1.
func composed(t *Tape, losses *Var) device.Tensor {
	ones := t.Device.Alloc(losses.Value.Shape...)
	values := make([]float32, ones.Len())
	for i := range values {
		values[i] = 1
	}
	t.Device.Upload(ones, values)
	losses.AddGrad(ones)
	return losses.Value
}

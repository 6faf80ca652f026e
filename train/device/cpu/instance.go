package cpu

import (
	"math"

	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/parallel"
	"github.com/seed-436d2970/pixpro/train/device"
)

// SimilarityLoss implements device.FusedLosses.
func (d *Device) SimilarityLoss(losses, dq, q, k device.Tensor, m device.Matching) {
	images, c := q.Rows(), q.Channels()
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == images, "instance loss of %v and %v", q.Shape, k.Shape)
	qs, ks, dqs, ls := floats(q), floats(k), floats(dq), floats(losses)
	factor := -2 * m.Scale
	parallel.For(images, d.threads, func(i int) {
		key, grad := ks[(i+m.KeyShift)%images*c:][:c], dqs[i*c:][:c]
		var sum float64
		for j, v := range qs[i*c:][:c] {
			sum += float64(v) * float64(key[j])
			grad[j] = float32(factor * float64(key[j]))
		}
		ls[i] = float32(factor * sum)
	})
}

// InfoNCELoss implements device.FusedLosses. With p the softmax of an image's
// cosines over tau, its loss is -log p of its own key, and the gradient by a
// cosine (p - [own key]) / tau.
func (d *Device) InfoNCELoss(losses, dq, q, k device.Tensor, m device.Matching, tau float64) {
	images, c := q.Rows(), q.Channels()
	half := m.KeyShift
	mustBe(k.Len() == q.Len() && dq.Len() == q.Len() && losses.Len() == images && images == 2*half, "contrast of %v and %v", q.Shape, k.Shape)
	qs, ks, dqs, ls := floats(q), floats(k), floats(dq), floats(losses)
	parallel.ForWorker(2, d.threads, func(thread, view int) {
		queries, grads := qs[view*half*c:][:half*c], dqs[view*half*c:][:half*c]
		keys := ks[(1-view)*half*c:][:half*c]
		cos := d.threadScratch(thread, half*half)
		gemm.Mul(false, true, half, half, c, queries, c, keys, c, false, cos, half)
		for i := range half {
			row := cos[i*half:][:half]
			clearUpperBits()
			var sum float64
			for _, v := range row {
				sum += math.Exp(float64(v) / tau)
			}
			ls[view*half+i] = float32(m.Scale * (math.Log(sum) - float64(row[i])/tau))
			for j, v := range row {
				p := math.Exp(float64(v)/tau) / sum
				if i == j {
					p--
				}
				row[j] = float32(m.Scale / tau * p)
			}
		}
		gemm.Mul(false, false, half, c, half, cos, half, keys, c, false, grads, c)
	})
}

package devicetest

import (
	"fmt"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/nn"
)

// withoutLosses is a device without losses of its own.
type withoutLosses struct{ device.Device }

// lossDevices are the ways to compute losses.
func (h *harness) lossDevices() map[string]device.Device {
	ways := map[string]device.Device{"composed": withoutLosses{h.d}}
	if _, ok := h.d.(device.FusedLosses); ok {
		ways["fused"] = h.d
	}
	return ways
}

// losses tests a loss computed in all ways against a reference, and, where there
// are several, one way against the other.
func (h *harness) losses(what string, q, k array, compute func(t *nn.Tape, q, k *nn.Var) device.Tensor, reference func() array) {
	h.Helper()
	want := reference()
	wantGrad := gradient(q, constant(1, want.shape), reference)
	var values, grads []array
	for way, d := range h.lossDevices() {
		tape := nn.NewTape(d, nn.Train, 1)
		query := tape.Variable(h.put(q))
		losses := compute(tape, query.Retain(), tape.Input(h.put(k)))
		tape.Backward()
		h.equal(fmt.Sprintf("%s, %s: losses", what, way), losses, want)
		h.equal(fmt.Sprintf("%s, %s: dq", what, way), query.Grad(), wantGrad)
		values = append(values, array{want.shape, widened(h.get(losses))})
		grads = append(grads, array{q.shape, widened(h.get(query.Grad()))})
	}
	for i := range values[1:] {
		h.equal(what+": losses, fused and composed", h.put(values[i+1]), values[0])
		h.equal(what+": dq, fused and composed", h.put(grads[i+1]), grads[0])
	}
}

func testInstanceLosses(h *harness) {
	const n = 6
	q, k := normalize(h.random(n, 1, 1, 5)), normalize(h.random(n, 1, 1, 5))
	m := device.Matching{KeyShift: n / 2, Scale: 0.7}
	h.losses("similarity", q, k, func(t *nn.Tape, q, k *nn.Var) device.Tensor { return nn.SimilarityLoss(t, q, k, m) },
		func() array { return instanceLoss(q, k, m, 0) })
	h.losses("InfoNCE", q, k, func(t *nn.Tape, q, k *nn.Var) device.Tensor { return nn.InfoNCELoss(t, q, k, m, 0.2) },
		func() array { return instanceLoss(q, k, m, 0.2) })
}

func testPixelLosses(h *harness) {
	const n = 4
	q, k := normalize(h.random(n, 3, 4, 6)), normalize(h.random(n, 3, 4, 6))
	coordQ, coordK := h.crops(n), h.crops(n)
	copy(coordK.data[4*2:], []float64{5, 5, 6, 6}) // no overlap with the queries of image 0
	m := device.Matching{CoordQ: h.put(coordQ), CoordK: h.put(coordK), Threshold: 0.7, KeyShift: 2, Scale: 0.25}
	h.losses("PixPro", q, k, func(t *nn.Tape, q, k *nn.Var) device.Tensor { return nn.PixProLoss(t, q, k, m) },
		func() array { return pixelLoss(q, k, coordQ, coordK, m, 0) })
	h.losses("PixContrast", q, k, func(t *nn.Tape, q, k *nn.Var) device.Tensor { return nn.PixContrastLoss(t, q, k, m, 0.3) },
		func() array { return pixelLoss(q, k, coordQ, coordK, m, 0.3) })
}

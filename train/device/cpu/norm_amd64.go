package cpu

// The loops of batch normalisation in assembly, for rows of whole registers: each says
// whether it has done it, as the portable loops would have.

// assembled says whether rows of c values can be computed in assembly.
func assembled(c int) bool { return width == 16 && c%16 == 0 }

func normSums(sums, squares []float64, x values, c int) bool {
	n := len(x.floats) + len(x.halves)
	if !assembled(c) || n == 0 {
		return false
	}
	_, _ = sums[c-1], squares[c-1]
	if x.halves != nil {
		normSumsBFloat16(&sums[0], &squares[0], &x.halves[0], n/c, c/16)
	} else {
		normSumsFloat32(&sums[0], &squares[0], &x.floats[0], n/c, c/16)
	}
	return true
}

func normApply(y, x, residual values, scale, shift []float32, relu bool) bool {
	c := len(scale)
	n := len(x.floats) + len(x.halves)
	if !assembled(c) || n == 0 {
		return false
	}
	_ = shift[c-1]
	if x.halves != nil {
		var r *uint16
		if residual.exist() {
			r = &residual.halves[:n][0]
		}
		normApplyBFloat16(&y.halves[:n][0], &x.halves[0], r, &scale[0], &shift[0], n/c, c/16, relu)
		return true
	}
	var r *float32
	if residual.exist() {
		r = &residual.floats[:n][0]
	}
	normApplyFloat32(&y.floats[:n][0], &x.floats[0], r, &scale[0], &shift[0], n/c, c/16, relu)
	return true
}

func normBackwardSums(sums, products []float64, dy, x, y values, mean []float32) bool {
	c := len(mean)
	n := len(x.floats) + len(x.halves)
	if !assembled(c) || n == 0 {
		return false
	}
	_, _ = sums[c-1], products[c-1]
	if x.halves != nil {
		var mask *uint16
		if y.exist() {
			mask = &y.halves[:n][0]
		}
		normBackwardSumsBFloat16(&sums[0], &products[0], &dy.halves[:n][0], &x.halves[0], mask, &mean[0], n/c, c/16)
		return true
	}
	var mask *float32
	if y.exist() {
		mask = &y.floats[:n][0]
	}
	normBackwardSumsFloat32(&sums[0], &products[0], &dy.floats[:n][0], &x.floats[0], mask, &mean[0], n/c, c/16)
	return true
}

func normBackward(dx, dy, x values, mean, k0, k1, k2 []float32) bool {
	c := len(mean)
	n := len(x.floats) + len(x.halves)
	if !assembled(c) || n == 0 {
		return false
	}
	_, _, _ = k0[c-1], k1[c-1], k2[c-1]
	if x.halves != nil {
		normBackwardBFloat16(&dx.halves[:n][0], &dy.halves[:n][0], &x.halves[0], &mean[0], &k0[0], &k1[0], &k2[0], n/c, c/16)
	} else {
		normBackwardFloat32(&dx.floats[:n][0], &dy.floats[:n][0], &x.floats[0], &mean[0], &k0[0], &k1[0], &k2[0], n/c, c/16)
	}
	return true
}

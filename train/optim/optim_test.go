package optim

import (
	"math"
	"testing"
)

func TestStepScheduleLowersTheRateAfterItsEpochs(t *testing.T) {
	s := Schedule{Base: 2, StepsPerEpoch: 10, Epochs: 40, WarmupEpochs: 1, DecayEpochs: []int{20, 30}, DecayRate: 0.1}
	for step, want := range map[int64]float64{0: 0.02, 10: 2, 11: 2, 199: 2, 200: 0.2, 299: 0.2, 300: 0.02, 399: 0.02} {
		if got := s.LearningRate(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("the rate of step %d is %g, want %g", step, got, want)
		}
	}
}

func TestScheduleWithoutWarmup(t *testing.T) {
	s := Schedule{Base: 2, StepsPerEpoch: 10, Epochs: 4}
	if first, last := s.LearningRate(0), s.LearningRate(39); first != 2 || last > 0.01 {
		t.Errorf("the rate goes from %g to %g, want from 2 to nearly 0", first, last)
	}
}

func TestKeyMomentumRisesToOne(t *testing.T) {
	if got := KeyMomentum(0.99, 0, 100); math.Abs(got-0.99) > 1e-15 {
		t.Errorf("the first momentum is %g, want 0.99", got)
	}
	if got := KeyMomentum(0.99, 100, 100); got != 1 {
		t.Errorf("the last momentum is %g, want 1", got)
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Kind: LARS, Momentum: 0.9, WeightDecay: 1e-5}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{{Kind: "adam"}, {Kind: SGD, Momentum: 1}, {Kind: SGD, Momentum: math.NaN()}, {Kind: LARS, WeightDecay: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

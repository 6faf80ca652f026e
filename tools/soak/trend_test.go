package main

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestJudge has series of an hour whose trend is known.
func TestJudge(t *testing.T) {
	const n = 240
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name  string
		at    func(minute float64) float64 // MiB
		trend bool
	}{
		{"flat", func(float64) float64 { return 200 }, false},
		{"noise", func(float64) float64 { return 200 + 20*rng.NormFloat64() }, false},
		{"a leak of 1 MiB a minute", func(m float64) float64 { return 200 + m }, true},
		{"the same in noise", func(m float64) float64 { return 200 + m + 20*rng.NormFloat64() }, true},
		{"a leak of 0.1 MiB a minute", func(m float64) float64 { return 200 + 0.1*m }, false},
		{"collections of garbage", func(m float64) float64 { return 200 + 40*math.Mod(m, 3.7)/3.7 }, false},
		{"long sawtooth", func(m float64) float64 { return 200 + 60*math.Mod(m, 9)/9 }, false},
		{"warm-up", func(m float64) float64 { return 300 - 200*math.Exp(-m/3) }, false},
		{"a jump in the warm-up", func(m float64) float64 { return 200 + 100*float64(min(1, int(m/10))) }, false},
		{"outliers", func(float64) float64 { return 200 + 500*float64(rng.IntN(20)/19) }, false},
		{"falls", func(m float64) float64 { return 300 - m }, false},
	} {
		var all []sample
		for i := range n {
			at := time.Duration(i) * time.Hour / n
			all = append(all, sample{At: at, process: process{Resident: int64(c.at(at.Minutes()) * (1 << 20))}})
		}
		if j := figures[0].judge(all); j.trend != c.trend {
			t.Errorf("%s: %+v, want a trend: %v", c.name, j, c.trend)
		}
	}
}

// TestJudgeWork slows work down by a fifth, and by a hundredth.
func TestJudgeWork(t *testing.T) {
	for _, share := range []float64{0.2, 0.01} {
		const n = 240
		var all []sample
		rng := rand.New(rand.NewPCG(3, 4))
		units := 0.0
		for i := range n {
			units += 1000 * (1 - share*float64(i)/n) * (1 + 0.05*rng.NormFloat64())
			all = append(all, sample{At: time.Duration(i) * time.Hour / n, report: report{Units: int64(units)}, process: process{CPU: time.Duration(i) * time.Second}})
		}
		work := figures[len(figures)-1]
		if j := work.judge(all); j.trend != (share > 0.1) {
			t.Errorf("slower by %v: %+v", share, j)
		}
	}
}

// TestJudgeNoise bounds how often noise is taken for a trend.
func TestJudgeNoise(t *testing.T) {
	found := 0
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var all []sample
		for i := range 240 {
			all = append(all, sample{At: time.Duration(i) * time.Hour / 240, process: process{Resident: int64((200 + 60*rng.Float64()) * (1 << 20))}})
		}
		if figures[0].judge(all).trend {
			found++
		}
	}
	if found > 2 {
		t.Errorf("%d of 500 series of noise have a trend", found)
	}
}

package main

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// sample is what is known of an activity at a time since the start.
type sample struct {
	At time.Duration
	report
	process
}

// process is what the system says of a process.
type process struct {
	Resident    int64 // bytes
	Descriptors int
	Threads     int
	CPU         time.Duration // user and system
}

// metric is a figure that must not have a trend.
type metric struct {
	name  string
	unit  string
	value func(all []sample, i int) float64
	// A trend to the wrong side counts from a change of share of the first value,
	// or of least, whichever is more.
	share, least float64
	falls        bool // the wrong side is down
}

var figures = []metric{
	{name: "resident", unit: "MiB", share: 0.05, least: 16, value: func(all []sample, i int) float64 { return float64(all[i].Resident) / (1 << 20) }},
	{name: "heap", unit: "MiB", share: 0.05, least: 8, value: func(all []sample, i int) float64 { return float64(all[i].Heap) / (1 << 20) }},
	{name: "descriptors", least: 2, value: func(all []sample, i int) float64 { return float64(all[i].Descriptors) }},
	{name: "goroutines", least: 2, value: func(all []sample, i int) float64 { return float64(all[i].Goroutines) }},
	{name: "threads", least: 3, value: func(all []sample, i int) float64 { return float64(all[i].Threads) }},
	{name: "work", unit: "units per CPU second", share: 0.1, falls: true, value: rate},
}

// rate is the work done for a second of processor time since the sample before.
func rate(all []sample, i int) float64 {
	if i == 0 {
		return math.NaN()
	}
	seconds := (all[i].CPU - all[i-1].CPU).Seconds()
	if seconds <= 0 {
		return math.NaN()
	}
	return float64(all[i].Units-all[i-1].Units) / seconds
}

// judgement is what is found of a metric.
type judgement struct {
	first, last float64 // medians of the first and last fifth behind the warm-up; NaN: too few samples
	hourly      float64 // slope
	p           float64 // of a trend to the wrong side by chance
	trend       bool
}

const (
	warmUp       = 0.25 // share of the samples that is left out
	fewest       = 20   // samples that can be judged
	significance = 1e-3 // a trend by chance, once in a thousand series
	// blocks that the samples are averaged to: neighbours are not independent,
	// such as of a heap between two collections.
	blocks = 40
)

// judge looks for a trend to the wrong side. There is one if it is significant by
// the test of Mann and Kendall (Kendall, Rank Correlation Methods, 1975) and if
// the line of Theil and Sen, the median of the slopes between all pairs of
// samples, adds more than is tolerated over the time that was seen. So neither
// noise, single outliers nor a small but certain change fail, and a jump does
// only if what follows it rises, too.
func (m metric) judge(all []sample) judgement {
	var at, values []float64
	for i := int(warmUp * float64(len(all))); i < len(all); i++ {
		if v := m.value(all, i); !math.IsNaN(v) {
			at, values = append(at, all[i].At.Hours()), append(values, v)
		}
	}
	j := judgement{first: math.NaN(), last: math.NaN(), hourly: math.NaN(), p: 1}
	if len(values) < fewest {
		return j
	}
	j.first, j.last = median(values[:len(values)/5]), median(values[len(values)-len(values)/5:])
	at, values = averaged(at), averaged(values)
	j.hourly = slope(at, values)
	j.p = mannKendall(values, m.falls)
	added := j.hourly * (at[len(at)-1] - at[0])
	if m.falls {
		added = -added
	}
	j.trend = j.p < significance && added > max(m.share*math.Abs(j.first), m.least)
	return j
}

// longestPause is the longest time without a new unit of work, and the whole time.
func longestPause(all []sample) (pause, whole time.Duration) {
	units, since := int64(0), time.Duration(0)
	for _, s := range all {
		if s.Units > units {
			units, since = s.Units, s.At
		}
		pause, whole = max(pause, s.At-since), s.At
	}
	return pause, whole
}

// averaged makes blocks of neighbours.
func averaged(values []float64) []float64 {
	n := min(blocks, len(values))
	out := make([]float64, n)
	for i := range out {
		out[i] = stat.Mean(values[i*len(values)/n:(i+1)*len(values)/n], nil)
	}
	return out
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return stat.Quantile(0.5, stat.LinInterp, sorted, nil)
}

// slope is that of Theil and Sen.
func slope(at, values []float64) float64 {
	var slopes []float64
	for i := range at {
		for k := range i {
			if dt := at[i] - at[k]; dt > 0 {
				slopes = append(slopes, (values[i]-values[k])/dt)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes)
}

// mannKendall is the probability that values without a trend rise (or fall) as
// much as these do. Ties make it smaller than it should be.
func mannKendall(values []float64, falls bool) float64 {
	n := float64(len(values))
	s := 0.0
	for i := range values {
		for k := range i {
			switch d := values[i] - values[k]; {
			case d > 0:
				s++
			case d < 0:
				s--
			}
		}
	}
	if falls {
		s = -s
	}
	if s <= 0 {
		return 1
	}
	return distuv.UnitNormal.Survival((s - 1) / math.Sqrt(n*(n-1)*(2*n+5)/18))
}

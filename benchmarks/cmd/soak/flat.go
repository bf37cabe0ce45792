//go:build unix

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
)

// A gauge is one of the figures that have to be flat.
type gauge struct {
	name, unit string
	scale      float64 // of the unit
	of         func(sample) float64
	// It may grow by so much from the end of the warm-up to that of the run: so many
	// units, and this share of its median.
	units, share float64
}

var gauges = []gauge{
	{"resident memory", "MB", 1e6, func(s sample) float64 { return s.Resident }, 4, 0.05},
	{"heap after a collection", "MB", 1e6, func(s sample) float64 { return s.Heap }, 0.5, 0.05},
	{"goroutines", "", 1, func(s sample) float64 { return s.Goroutines }, 3, 0},
	{"open files", "", 1, func(s sample) float64 { return s.Files }, 3, 0},
}

// warmUp is the part of a run that is not judged: tiers fill, pools and buffers too.
const warmUp = 0.2

// enough is how many samples have to be left to be judged.
const enough = 10

// A trend is how a gauge of one worker went.
type trend struct {
	median float64 // in units
	growth float64 // over what was judged
	bound  float64 // growth may be no more
	n      int     // samples that were judged
}

func (t trend) flat() bool { return t.n >= enough && t.growth <= t.bound }

// trendOf fits a line through the samples after the warm-up: its slope is the median
// of those between all pairs (Theil, Sen), on which peaks and single steps have little
// hold.
func (g gauge) trendOf(samples []sample, length time.Duration) (t trend) {
	from := slices.IndexFunc(samples, func(s sample) bool { return s.At >= time.Duration(warmUp*float64(length)) })
	if from < 0 {
		return t
	}
	samples = samples[from:]
	t.n = len(samples)
	values := make([]float64, t.n)
	var slopes []float64
	for i, s := range samples {
		values[i] = g.of(s) / g.scale
		for j := range i {
			if d := s.At - samples[j].At; d > 0 {
				slopes = append(slopes, (values[i]-values[j])/d.Seconds())
			}
		}
	}
	if len(slopes) > 0 {
		t.growth = sides.Median(slopes) * (samples[t.n-1].At - samples[0].At).Seconds()
	}
	t.median = sides.Median(values)
	t.bound = g.units + g.share*t.median
	return t
}

func (g gauge) finding(worker int, t trend) string {
	if t.n < enough {
		return fmt.Sprintf("worker %d: %d samples of its %s: too few", worker, t.n, g.name)
	}
	return fmt.Sprintf("worker %d: its %s grew by %.2f %s, and %.2f are allowed", worker, g.name, t.growth, g.unit, t.bound)
}

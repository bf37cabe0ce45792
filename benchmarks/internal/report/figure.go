package report

import (
	"slices"
	"strconv"
)

// A Figure is one figure in all runs. Its methods want at least one.
type Figure []float64

func (f Figure) Low() float64  { return slices.Min(f) }
func (f Figure) High() float64 { return slices.Max(f) }

func (f Figure) Median() float64 {
	v := slices.Sorted(slices.Values(f))
	n := len(v)
	return (v[n/2] + v[(n-1)/2]) / 2
}

// Over, Plus and Minus go run by run, as far as both have runs.
func (f Figure) Over(g Figure) Figure {
	return f.with(g, func(x, y float64) float64 { return x / y })
}

func (f Figure) Plus(g Figure) Figure {
	return f.with(g, func(x, y float64) float64 { return x + y })
}

func (f Figure) Minus(g Figure) Figure {
	return f.with(g, func(x, y float64) float64 { return x - y })
}

func (f Figure) with(g Figure, do func(x, y float64) float64) (out Figure) {
	for i := range min(len(f), len(g)) {
		out = append(out, do(f[i], g[i]))
	}
	return out
}

// Number formats v with about three digits.
func Number(v float64) string {
	switch {
	case v >= 100 || v == float64(int(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v < 0.1:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Microseconds formats a time in nanoseconds.
func Microseconds(v float64) string { return strconv.FormatFloat(v/1000, 'f', 1, 64) }

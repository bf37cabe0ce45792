package benchmarks

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// A side is one of the things that a benchmark compares. run does n operations
// as goroutine g of those that work at a time.
type side struct {
	name string
	run  func(g, n int)
}

// compare runs a batch of each side in turn, a round, as often as b asks for,
// each batch spread over goroutines. The last side is the one that is judged by the
// others. It reports, for each side,
//
//	name-ns/op      the median batch's time, by the batch's operations
//	name-allocs/op  allocations by operation, of all goroutines, rounded
//
// and for each other side
//
//	x-name          the last side's time by this one's in the same round: the median
func compare(b *testing.B, goroutines, batch int, sides ...side) {
	b.Helper()
	each := batch / goroutines
	batch = each * goroutines
	for _, s := range sides {
		s.batch(goroutines, each) // connections, pools and caches are warm then
	}
	times := make([][]float64, len(sides))
	for round := 0; b.Loop(); round++ {
		for i := range sides {
			i = (i + round) % len(sides) // each has to begin with the garbage of another at times
			began := time.Now()
			sides[i].batch(goroutines, each)
			times[i] = append(times[i], float64(time.Since(began))/float64(batch))
		}
	}
	last := times[len(sides)-1]
	for i, s := range sides[:len(sides)-1] {
		ratios := make([]float64, len(last))
		for round := range ratios {
			ratios[round] = last[round] / times[i][round]
		}
		b.ReportMetric(median(ratios), "x-"+s.name)
	}
	for i, s := range sides {
		b.ReportMetric(median(times[i]), s.name+"-ns/op")
		b.ReportMetric(s.allocations(goroutines, each), s.name+"-allocs/op")
	}
	b.ReportMetric(0, "ns/op") // that of a round says nothing: 0 leaves it out
}

// batch runs n operations on each of so many goroutines.
func (s side) batch(goroutines, n int) {
	if goroutines == 1 {
		s.run(0, n)
		return
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { s.run(g, n) })
	}
	wg.Wait()
}

// allocations returns what an operation allocates, to the nearest whole number:
// a batch also counts what the process does in the background.
func (s side) allocations(goroutines, n int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.batch(goroutines, n)
	runtime.ReadMemStats(&after)
	return math.Round(float64(after.Mallocs-before.Mallocs) / float64(goroutines*n))
}

func median(xs []float64) float64 { return quantile(xs, 0.5) }

// quantile returns the q-quantile of xs, which it sorts, by linear
// interpolation.
func quantile(xs []float64, q float64) float64 {
	slices.Sort(xs)
	at := q * float64(len(xs)-1)
	i := int(at)
	if i+1 >= len(xs) {
		return xs[len(xs)-1]
	}
	return xs[i] + (at-float64(i))*(xs[i+1]-xs[i])
}

func TestQuantileInterpolates(t *testing.T) {
	for _, c := range []struct {
		xs      []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{1, 2}, 1, 2},
		{[]float64{0, 100}, 0.99, 99},
	} {
		if got := quantile(c.xs, c.q); got != c.want {
			t.Errorf("quantile(%v, %v): got %v, want %v", c.xs, c.q, got, c.want)
		}
	}
}

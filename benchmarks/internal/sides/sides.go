// Package sides compares things in one Go benchmark: they run in turn, in short
// batches, so that noise of the machine meets all of them.
package sides

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Side is one of the things that a benchmark compares. Run does n operations
// as goroutine g of those that work at a time. A Name has no space in it.
type Side struct {
	Name string
	Run  func(g, n int)
}

// Compare runs a batch of each side in turn, a round, as often as b asks for,
// each batch spread over goroutines. The last side is the one that is judged by the
// others. It reports, for each side,
//
//	name-ns/op      the median batch's time, by the batch's operations
//	name-allocs/op  allocations by operation, of all goroutines, rounded
//
// and for each other side
//
//	x-name          the last side's time by this one's in the same round: the median
func Compare(b *testing.B, goroutines, batch int, sides ...Side) {
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
		b.ReportMetric(Median(ratios), "x-"+s.Name)
	}
	for i, s := range sides {
		b.ReportMetric(Median(times[i]), s.Name+"-ns/op")
		b.ReportMetric(s.allocations(goroutines, each), s.Name+"-allocs/op")
	}
	b.ReportMetric(0, "ns/op") // that of a round says nothing: 0 leaves it out
}

// batch runs n operations on each of so many goroutines.
func (s Side) batch(goroutines, n int) {
	if goroutines == 1 {
		s.Run(0, n)
		return
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { s.Run(g, n) })
	}
	wg.Wait()
}

// allocations returns what an operation allocates, to the nearest whole number:
// a batch also counts what the process does in the background.
func (s Side) allocations(goroutines, n int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.batch(goroutines, n)
	runtime.ReadMemStats(&after)
	return math.Round(float64(after.Mallocs-before.Mallocs) / float64(goroutines*n))
}

// Median returns the middle of xs, which it sorts.
func Median(xs []float64) float64 { return Quantile(xs, 0.5) }

// Quantile returns the q-quantile of xs, which it sorts, by linear
// interpolation.
func Quantile(xs []float64, q float64) float64 {
	slices.Sort(xs)
	at := q * float64(len(xs)-1)
	i := int(at)
	if i+1 >= len(xs) {
		return xs[len(xs)-1]
	}
	return xs[i] + (at-float64(i))*(xs[i+1]-xs[i])
}

package peers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flipcache/flipcache/benchmarks/hitratio"
	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/internal/clock"
)

// everyLocal opens all that a hit can be measured of: the containers, and the
// modes of hybrid.Cache, the plainest last.
func everyLocal(b *testing.B, capacity int) (all []named[Local]) {
	for _, c := range openLocals(b, capacity, always) {
		all = append(all, named[Local]{c.name, c.p})
	}
	return append(all, openHybrids(b, capacity)...)
}

// BenchmarkHit reads 1,000 keys that are there. The peers that know TTLs have
// one; clock is one reading of the exact clock, which a lease costs.
func BenchmarkHit(b *testing.B) {
	ks := sides.Keys(keyCount)
	all := everyLocal(b, 10*keyCount)
	for _, p := range all {
		fill(b, p.name, p.p, ks)
	}
	order := sides.Shuffled(ks, 1)
	orders := [][]string{order, slices.Concat(order[keyCount/2:], order[:keyCount/2])}
	for goroutines := 1; goroutines <= 2; goroutines++ {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			in := []sides.Side{{Name: "clock", Run: func(_, n int) {
				for range n {
					if clock.Now() < 0 {
						b.Error("before the process began")
					}
				}
			}}}
			for _, p := range all {
				in = append(in, sides.Side{Name: p.name, Run: func(g, n int) {
					for range n / keyCount {
						if hits := p.p.Hits(orders[g]); hits != keyCount {
							b.Errorf("%s: %d hits of %d", p.name, hits, keyCount)
						}
					}
				}})
			}
			sides.Compare(b, goroutines, 30*keyCount*goroutines, in...)
		})
	}
}

// BenchmarkZipf reads 100,000 keys that are there, by Zipf(1): most of what is read
// is in no processor's cache.
func BenchmarkZipf(b *testing.B) {
	const keys, length, window = 100_000, 1 << 18, 1 << 16
	ks := sides.Keys(keys)
	all := everyLocal(b, 2*keys)
	for _, p := range all {
		fill(b, p.name, p.p, ks)
	}
	shuffled := sides.Shuffled(ks, 1) // a rank says nothing about where a key lies
	for goroutines := 1; goroutines <= 2; goroutines++ {
		orders := make([][]string, goroutines)
		for g := range orders {
			for _, rank := range hitratio.Zipf(keys, 1, length, uint64(g+1)) {
				orders[g] = append(orders[g], shuffled[rank])
			}
		}
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			var in []sides.Side
			for _, p := range all {
				at := newWalk(goroutines, length)
				in = append(in, sides.Side{Name: p.name, Run: func(g, n int) {
					from := at.next(g, n)
					if hits := p.p.Hits(orders[g][from : from+n]); hits != n {
						b.Errorf("%s: %d hits of %d", p.name, hits, n)
					}
				}})
			}
			sides.Compare(b, goroutines, window*goroutines, in...)
		})
	}
}

// A walk is where each goroutine goes on in a list of the given length.
type walk struct {
	at     []int
	length int
}

func newWalk(goroutines, length int) walk { return walk{make([]int, goroutines), length} }

// next returns where n that follow each other begin.
func (w walk) next(g, n int) int {
	if w.at[g]+n > w.length {
		w.at[g] = 0
	}
	from := w.at[g]
	w.at[g] += n
	return from
}

// BenchmarkAbsent looks for 1,000 keys that are not there.
func BenchmarkAbsent(b *testing.B) {
	ks := sides.Keys(2 * keyCount)
	there, absent := ks[:keyCount], sides.Shuffled(ks[keyCount:], 1)
	all := openLocals(b, 10*keyCount, always)
	var in []sides.Side
	for _, p := range all {
		fill(b, p.name, p.p, there)
		in = append(in, sides.Side{Name: p.name, Run: func(_, n int) {
			for range n / keyCount {
				if hits := p.p.Hits(absent); hits != 0 {
					b.Errorf("%s: %d hits", p.name, hits)
				}
			}
		}})
	}
	b.Run("goroutines=1", func(b *testing.B) { sides.Compare(b, 1, 30*keyCount, in...) })
}

// BenchmarkSet sets 1,000 keys that are there to another value. ristretto and
// theine do part of the work later.
func BenchmarkSet(b *testing.B) {
	ks := sides.Keys(keyCount)
	order := sides.Shuffled(ks, 1)
	orders := [][]string{order, slices.Concat(order[keyCount/2:], order[:keyCount/2])}
	for goroutines := 1; goroutines <= 2; goroutines++ {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			var in []sides.Side
			for _, p := range openLocals(b, 10*keyCount, func(p LocalPeer) bool { return p.Safe || goroutines == 1 }) {
				fill(b, p.name, p.p, ks)
				in = append(in, sides.Side{Name: p.name, Run: func(g, n int) {
					for range n / keyCount {
						p.p.Sets(orders[g], value)
					}
				}})
			}
			sides.Compare(b, goroutines, 10*keyCount*goroutines, in...)
		})
	}
}

// BenchmarkChurn has eight goroutines look up keys that are not there, and set
// them, where each that enters evicts another. ristretto drops what comes too
// fast instead of evicting.
func BenchmarkChurn(b *testing.B) {
	const goroutines, capacity, each = 8, 10_000, 1 << 17
	ks := make([]string, goroutines*each)
	for i := range ks {
		ks[i] = fmt.Sprintf("user:%07d", i)
	}
	b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
		var in []sides.Side
		for _, p := range openLocals(b, capacity, func(p LocalPeer) bool { return p.Bound }) {
			if err := p.p.Fill(context.Background(), ks[:capacity], ks[:capacity]); err != nil {
				b.Fatal(err)
			}
			at := newWalk(goroutines, each)
			for g := range at.at {
				at.at[g] = each / 2 // past what it was filled with
			}
			in = append(in, sides.Side{Name: p.name, Run: func(g, n int) {
				from := g*each + at.next(g, n)
				if hits := p.p.Fetch(ks[from:from+n], value); hits > n/50 {
					b.Errorf("%s: %d hits of %d", p.name, hits, n)
				}
			}})
		}
		sides.Compare(b, goroutines, goroutines*4096, in...)
	})
}

// fresh returns n keys and values, none of which shares its bytes with another.
func fresh(n int) (keys, values []string) {
	keys, values = sides.Keys(n), make([]string, n)
	for i := range values {
		values[i] = strings.Clone(value)
	}
	return keys, values
}

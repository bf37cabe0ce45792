package peers

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
)

// BenchmarkTwoTierHit reads 1,000 users that the local tier has.
func BenchmarkTwoTierHit(b *testing.B) {
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	all := openTwoTiers(b, 20*keyCount, always)
	for _, p := range all {
		fillUsers(b, p.name, p.p, ks)
	}
	order := sides.Shuffled(ks, 1)
	for goroutines := 1; goroutines <= 2; goroutines++ {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			var in []sides.Side
			for _, p := range all {
				in = append(in, sides.Side{Name: p.name, Run: func(_, n int) {
					for range n / keyCount {
						if hits := p.p.Hits(ctx, order); hits != keyCount {
							b.Errorf("%s: %d hits of %d", p.name, hits, keyCount)
						}
					}
				}})
			}
			before := redisReads(b)
			sides.Compare(b, goroutines, 20*keyCount*goroutines, in...)
			if n := redisReads(b) - before; n > keyCount {
				b.Errorf("%d reads went to Redis", n)
			}
		})
	}
}

// farKeys is how many keys are in Redis for the reads that miss: so many more than
// nearKeys, the room of the local tiers, that reading them in turn finds next to
// none there. A policy that holds on to its first entries finds those, 5 %: they
// are spread evenly over the reads, which go in another order than the writes.
const (
	farKeys  = 20_000
	nearKeys = 1000
)

// openFar opens the two-tier peers that are wanted, with all far keys in Redis.
func openFar(b *testing.B, ks []string, want func(TwoTierPeer) bool) []named[TwoTier] {
	b.Helper()
	all := openTwoTiers(b, nearKeys, want)
	for _, p := range all {
		inParallel(64, len(ks), func(i int) {
			if err := p.p.Set(context.Background(), ks[i], UserOf(i)); err != nil {
				b.Errorf("%s: set: %v", p.name, err)
			}
		})
	}
	return all
}

// inParallel calls do for each of n numbers, on so many goroutines.
func inParallel(goroutines, n int, do func(i int)) {
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n; i += goroutines {
				do(i)
			}
		})
	}
	wg.Wait()
}

// mustMiss fails where read, of n keys, leaves Redis out.
func mustMiss(b *testing.B, name string, n int, read func()) {
	b.Helper()
	before := redisReads(b)
	read()
	if got := redisReads(b) - before; got < n*9/10 {
		b.Errorf("%s: only %d of %d reads went to Redis", name, got, n)
	}
}

// BenchmarkTwoTierMiss reads users that only Redis has, each of which enters the
// local tier and evicts another.
func BenchmarkTwoTierMiss(b *testing.B) {
	ctx := context.Background()
	ks := sides.Keys(farKeys)
	all := openFar(b, ks, func(p TwoTierPeer) bool { return !p.Raw })
	ks = sides.Shuffled(ks, 1)
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			each := farKeys / goroutines
			var in []sides.Side
			for _, p := range all {
				at := newWalk(goroutines, each)
				read := func(g, n int) {
					from := g*each + at.next(g, n)
					for _, k := range ks[from : from+n] {
						if _, err := p.p.Get(ctx, k); err != nil {
							b.Errorf("%s: %v", p.name, err)
							return
						}
					}
				}
				if goroutines == 1 {
					mustMiss(b, p.name, farKeys/4, func() { read(0, farKeys/4) })
				}
				in = append(in, sides.Side{Name: p.name, Run: read})
			}
			sides.Compare(b, goroutines, max(64, 16*goroutines), in...)
		})
	}
}

// BenchmarkTwoTierSet writes users. What a write does beside its SET differs: see
// TwoTierPeer.Hears.
func BenchmarkTwoTierSet(b *testing.B) {
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			each := keyCount / goroutines
			var in []sides.Side
			for _, p := range openTwoTiers(b, 20*keyCount, func(p TwoTierPeer) bool { return !p.Raw }) {
				at := newWalk(goroutines, each)
				in = append(in, sides.Side{Name: p.name, Run: func(g, n int) {
					from := at.next(g, n)
					for i := range n {
						i += g*each + from
						if err := p.p.Set(ctx, ks[i], UserOf(i)); err != nil {
							b.Errorf("%s: %v", p.name, err)
							return
						}
					}
				}})
			}
			sides.Compare(b, goroutines, max(64, 8*goroutines), in...)
		})
	}
}

// manyKeys is how many keys one call of GetMany reads.
const manyKeys = 100

// BenchmarkTwoTierGetMany reads 100 users by one call: where=local has all in the
// local tier, where=redis none. The figures are those of a call.
func BenchmarkTwoTierGetMany(b *testing.B) {
	ctx := context.Background()
	many := func(peer TwoTierPeer) bool { return !peer.Raw }
	get := func(b *testing.B, p named[TwoTier], m ManyGetter, ks []string) {
		if found, err := m.GetMany(ctx, ks); err != nil || found != len(ks) {
			b.Errorf("%s: %d of %d, %v", p.name, found, len(ks), err)
		}
	}
	b.Run("where=local/goroutines=1", func(b *testing.B) {
		ks := sides.Keys(keyCount)
		order := sides.Shuffled(ks, 1)
		var in []sides.Side
		for _, p := range openTwoTiers(b, 20*keyCount, many) {
			m, ok := p.p.(ManyGetter)
			if !ok {
				continue
			}
			fillUsers(b, p.name, p.p, ks)
			run := func(_, n int) {
				for i := range n {
					at := i * manyKeys % keyCount
					get(b, p, m, order[at:at+manyKeys])
				}
			}
			run(0, keyCount/manyKeys) // who keeps replies keeps these
			in = append(in, sides.Side{Name: p.name, Run: run})
		}
		before := redisReads(b)
		sides.Compare(b, 1, 50, in...)
		if n := redisReads(b) - before; n > keyCount {
			b.Errorf("%d reads went to Redis", n)
		}
	})
	b.Run("where=redis/goroutines=1", func(b *testing.B) {
		ks := sides.Keys(farKeys)
		all := openFar(b, ks, many)
		ks = sides.Shuffled(ks, 1)
		var in []sides.Side
		for _, p := range all {
			m, ok := p.p.(ManyGetter)
			if !ok {
				continue
			}
			// Steps of one more than a call reads: who keeps whole replies meets
			// none again.
			at := 0
			run := func(_, n int) {
				for range n {
					get(b, p, m, ks[at:at+manyKeys])
					if at += manyKeys + 1; at+manyKeys > farKeys {
						at -= farKeys - manyKeys
					}
				}
			}
			mustMiss(b, p.name, farKeys/4, func() { run(0, farKeys/4/manyKeys) })
			in = append(in, sides.Side{Name: p.name, Run: run})
		}
		sides.Compare(b, 1, 10, in...)
	})
}

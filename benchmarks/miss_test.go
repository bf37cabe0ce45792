package benchmarks

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// BenchmarkMiss reads keys that only Redis has, beside rueidis:
//
//	get        GET
//	get-pttl   GET and PTTL in one round trip, which is what a read sends
//	flipcache  Get
//
// With tier=none the cache has no local tier (NoLocal). With tier=small it has
// one that holds a tenth of the keys, and they are read in turn, so that each
// read misses, enters its value and evicts another; with tier=small-tracking
// Redis tracks what is read, by all of the three.
func BenchmarkMiss(b *testing.B) {
	for _, tier := range []string{"none", "small", "small-tracking"} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("tier=%s/goroutines=%d", tier, goroutines), func(b *testing.B) {
				o := hybrid.Options[string, string]{TTL: time.Hour, NoLocal: true}
				mode := invalidate.PubSub
				if tier != "none" {
					o.NoLocal, o.LocalSize, o.Policy = false, keyCount/10, hybrid.FIFO // others keep a part of a loop
				}
				if tier == "small-tracking" {
					mode = invalidate.Tracking
				}
				benchmarkMiss(b, mode, o, goroutines)
			})
		}
	}
}

func benchmarkMiss(b *testing.B, mode invalidate.Mode, o hybrid.Options[string, string], goroutines int) {
	const name = "miss"
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	names := prefixed(name, ks)
	// The keys are written by another Store: the reader's tier has none.
	writer := newCache(b, openStore(b, invalidate.PubSub), name, hybrid.Options[string, string]{TTL: time.Hour, NoLocal: true})
	for _, k := range ks {
		if err := writer.Set(ctx, k, value); err != nil {
			b.Fatal(err)
		}
	}
	cache := newCache(b, openStore(b, mode), name, o)
	get, getPTTL := bareClient(b), bareClient(b)
	if mode == invalidate.Tracking {
		get, getPTTL = trackedClient(b), trackedClient(b)
	}
	at := func(g, i int) int { return (g*keyCount/goroutines + i) % keyCount }
	next := make([]int, goroutines) // where each goroutine of the cache's side goes on

	sides.Compare(b, goroutines, max(64, 16*goroutines),
		sides.Side{Name: "get", Run: func(g, n int) {
			for i := range n {
				if _, err := get.Do(ctx, get.B().Get().Key(names[at(g, i)]).Build()).ToString(); err != nil {
					b.Error(err)
					return
				}
			}
		}},
		sides.Side{Name: "get-pttl", Run: func(g, n int) {
			for i := range n {
				k := names[at(g, i)]
				rs := getPTTL.DoMulti(ctx, getPTTL.B().Get().Key(k).Build(), getPTTL.B().Pttl().Key(k).Build())
				if err := firstError(rs); err != nil {
					b.Error(err)
					return
				}
			}
		}},
		sides.Side{Name: "flipcache", Run: func(g, n int) {
			for range n {
				k := ks[at(g, next[g])]
				next[g]++
				if _, err := cache.Get(ctx, k); err != nil {
					b.Error(err)
					return
				}
			}
		}},
	)
	if s := cache.Stats(); s.Hits > s.Misses/100 {
		b.Errorf("more than one read in a hundred was local: %+v", s)
	}
}

func firstError(rs []rueidis.RedisResult) error {
	for _, r := range rs {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

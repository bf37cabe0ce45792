package benchmarks

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// BenchmarkHit reads keys that the local tier has, with a TTL and invalidation
// on, beside a Go map of the same keys, which knows no TTL, no bound and no
// other goroutine. The target, on one goroutine, is at most 3 times the map,
// and no allocation. With a lease each read looks at the exact clock once.
func BenchmarkHit(b *testing.B) {
	for _, mode := range []struct {
		name  string
		mode  invalidate.Mode
		lease time.Duration
	}{{"pubsub", invalidate.PubSub, 0}, {"pubsub+lease", invalidate.PubSub, 5 * time.Second}, {"tracking", invalidate.Tracking, 0}} {
		for _, goroutines := range []int{1, 2} {
			b.Run(fmt.Sprintf("mode=%s/goroutines=%d", mode.name, goroutines), func(b *testing.B) {
				benchmarkHit(b, goroutines, openStore(b, mode.mode, mode.lease))
			})
		}
	}
}

func benchmarkHit(b *testing.B, goroutines int, store *hybrid.Store) {
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	order := sides.Shuffled(ks, 1)
	cache := newCache(b, store, "hit", hybrid.Options[string, string]{TTL: time.Hour})
	plain := make(map[string]string, len(ks))
	for _, k := range ks {
		plain[k] = value
		if err := cache.Set(ctx, k, value); err != nil {
			b.Fatal(err)
		}
	}
	hits := cache.Stats().Hits
	sides.Compare(b, goroutines, 50*keyCount*goroutines,
		sides.Side{Name: "map", Run: func(_, n int) {
			for range n / keyCount {
				for _, k := range order {
					if v := plain[k]; len(v) != len(value) {
						b.Error("not the value")
						return
					}
				}
			}
		}},
		sides.Side{Name: "flipcache", Run: func(_, n int) {
			for range n / keyCount {
				for _, k := range order {
					if v, err := cache.Get(ctx, k); err != nil || len(v) != len(value) {
						b.Error("not the value", err)
						return
					}
				}
			}
		}},
	)
	if s := cache.Stats(); s.Misses > 0 || s.Hits == hits {
		b.Errorf("not all reads were local: %+v", s)
	}
}

// BenchmarkAuditedHit reads local keys of a cache without Audit and of one that has
// one hit in a thousand compared with Redis.
func BenchmarkAuditedHit(b *testing.B) {
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	order := sides.Shuffled(ks, 1)
	store := openStore(b, invalidate.PubSub, 0)
	side := func(name string, share float64) sides.Side {
		cache := newCache(b, store, name, hybrid.Options[string, string]{TTL: time.Hour, Audit: share})
		for _, k := range ks {
			if err := cache.Set(ctx, k, value); err != nil {
				b.Fatal(err)
			}
		}
		return sides.Side{Name: name, Run: func(_, n int) {
			for range n / keyCount {
				for _, k := range order {
					if v, err := cache.Get(ctx, k); err != nil || len(v) != len(value) {
						b.Error("not the value", err)
						return
					}
				}
			}
		}}
	}
	sides.Compare(b, 1, 50*keyCount, side("off", 0), side("audited", 0.001))
}

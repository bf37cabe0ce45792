package benchmarks

import (
	"context"
	"testing"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// What FlipCache 1.3 for Python publishes of its own benchmark, the one that
// BenchmarkOriginal redoes, in seconds.
const (
	pythonRedis = 22.986
	pythonLocal = 0.0172
)

// BenchmarkOriginal is FlipCache's own benchmark: 1,000 keys, set once, then
// read 100 times each, in random order, from Redis over loopback and from the
// local tier. It reports how long all reads took, and the time of those from
// Redis by that of the local ones. The Python package publishes a ratio of
// 1,336. A plain Go map shows how much of the ratio is Go's and Redis'.
func BenchmarkOriginal(b *testing.B) {
	const times = 100
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	order := sides.Shuffled(ks, times)
	cache := newCache(b, openStore(b, invalidate.PubSub), "original", hybrid.Options[string, string]{TTL: time.Hour})
	client := bareClient(b)
	plain := make(map[string]string, len(ks))
	for _, k := range ks {
		plain[k] = value
		if err := cache.Set(ctx, k, value); err != nil {
			b.Fatal(err)
		}
	}

	var redis, local, bare []float64
	seconds := func(reads func()) float64 {
		began := time.Now()
		reads()
		return time.Since(began).Seconds()
	}
	for b.Loop() {
		redis = append(redis, seconds(func() {
			for _, k := range order {
				if _, err := client.Do(ctx, client.B().Get().Key("original:"+k).Build()).ToString(); err != nil {
					b.Fatal(err)
				}
			}
		}))
		local = append(local, seconds(func() {
			for _, k := range order {
				if _, err := cache.Get(ctx, k); err != nil {
					b.Fatal(err)
				}
			}
		}))
		bare = append(bare, seconds(func() {
			for _, k := range order {
				if plain[k] == "" {
					b.Fatal("not the value")
				}
			}
		}))
	}
	if s := cache.Stats(); s.Misses > 0 {
		b.Errorf("not all reads were local: %+v", s)
	}
	reads := float64(len(order))
	r, l, m := sides.Median(redis), sides.Median(local), sides.Median(bare)
	b.ReportMetric(r/reads*1e9, "get-ns/op")
	b.ReportMetric(l/reads*1e9, "flipcache-ns/op")
	b.ReportMetric(m/reads*1e9, "map-ns/op")
	b.ReportMetric(r, "get-s")
	b.ReportMetric(l, "flipcache-s")
	b.ReportMetric(r/l, "get-by-flipcache")
	b.ReportMetric(r/m, "get-by-map")
	b.ReportMetric(pythonRedis/pythonLocal, "get-by-flipcache-in-python")
	b.ReportMetric(0, "ns/op")
}

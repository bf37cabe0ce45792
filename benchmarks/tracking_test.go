package benchmarks

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// BenchmarkSetTracking writes with invalidation by client tracking, beside
// rueidis:
//
//	set-default  SET by a client with its default options, which tracks nothing
//	set-tracked  SET on one tracked connection
//	flipcache    Set: up to 1 kB it has the value read back, and keeps it
//
// Targets: from one goroutine at most 1.2 times set-tracked with 100 bytes, 1.1
// with 10 kB, which are not kept; from 64 at most 1.33 times set-default.
func BenchmarkSetTracking(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("bytes=%d/goroutines=%d", size, goroutines), func(b *testing.B) {
				ctx := context.Background()
				ks, value := sides.Keys(keyCount), strings.Repeat("v", size)
				cache := newCache(b, openStore(b, invalidate.Tracking), "tracked", hybrid.Options[string, string]{TTL: setTTL})
				tracked := trackedClient(b)
				at := func(g, i int) int { return (g*keyCount/goroutines + i) % keyCount }
				set := func(client rueidis.Client, name string) func(int, int) {
					names := prefixed(name, ks)
					return func(g, n int) {
						for i := range n {
							err := client.Do(ctx, client.B().Set().Key(names[at(g, i)]).Value(value).PxMilliseconds(setTTL.Milliseconds()).Build()).Error()
							if err != nil {
								b.Error(err)
								return
							}
						}
					}
				}
				sides.Compare(b, goroutines, max(64, 16*goroutines),
					sides.Side{Name: "set-default", Run: set(bareClient(b), "set-def")},
					sides.Side{Name: "set-tracked", Run: set(tracked, "set-tra")},
					sides.Side{Name: "flipcache", Run: func(g, n int) {
						for i := range n {
							if err := cache.Set(ctx, ks[at(g, i)], value); err != nil {
								b.Error(err)
								return
							}
						}
					}},
				)
			})
		}
	}
}

// trackedClient is rueidis with one connection that Redis tracks.
func trackedClient(b *testing.B) rueidis.Client {
	b.Helper()
	o := redisServer(b).ClientOption()
	o.DisableCache = false
	o.PipelineMultiplex, o.BlockingPipeline = -1, -1
	o.ClientTrackingOptions = []string{"OPTOUT"}
	o.OnInvalidations = func([]rueidis.RedisMessage) {}
	c, err := rueidis.NewClient(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

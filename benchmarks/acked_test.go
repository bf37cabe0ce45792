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

// BenchmarkAcked writes under a lease, from one goroutine, with so many live
// processes (Stores of this process), each of which holds the keys:
//
//	set        Set
//	flipcache  Acked().Set
//
// The targets are at most 4, 5 and 12 times set with 2, 8 and 32 processes.
func BenchmarkAcked(b *testing.B) {
	for _, mode := range []invalidate.Mode{invalidate.PubSub, invalidate.Tracking} {
		for _, processes := range []int{2, 8, 32} {
			b.Run(fmt.Sprintf("mode=%v/processes=%d", mode, processes), func(b *testing.B) { benchmarkAcked(b, mode, processes) })
		}
	}
}

func benchmarkAcked(b *testing.B, mode invalidate.Mode, processes int) {
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	var caches []*hybrid.Cache[string, string]
	for range processes {
		caches = append(caches, newCache(b, openStore(b, mode, 5*time.Second), "acked", hybrid.Options[string, string]{TTL: setTTL}))
	}
	for _, k := range ks {
		if err := caches[0].Set(ctx, k, value); err != nil {
			b.Fatal(err)
		}
		for _, c := range caches[1:] {
			if _, err := c.Get(ctx, k); err != nil {
				b.Fatal(err)
			}
		}
	}
	// Until its connection is older than the longest lease, a writer asks the
	// server how long it has been a master, with each acknowledged write.
	time.Sleep(invalidate.MaxMaxStaleness + time.Second)
	set := func(name string, c *hybrid.Cache[string, string]) sides.Side {
		return sides.Side{Name: name, Run: func(_, n int) {
			for i := range n {
				if err := c.Set(ctx, ks[i%keyCount], value); err != nil {
					b.Error(err)
					return
				}
			}
		}}
	}
	sides.Compare(b, 1, 20, set("set", caches[0]), set("flipcache", caches[0].Acked()))
}

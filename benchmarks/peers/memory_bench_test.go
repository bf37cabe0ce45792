package peers

import (
	"context"
	"runtime"
	"testing"
	"unsafe"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
)

// BenchmarkMemory reports what 100,000 entries add to the heap after a garbage
// collection, by entry, less the bytes of their keys and values, as they are
// allocated. The headers of the two strings, 32 bytes, count: they are part of
// an entry. A peer has room for twice as many, as it must to hold all; what it
// takes in advance counts, too.
func BenchmarkMemory(b *testing.B) {
	const entries, headers = 100_000, 2 * unsafe.Sizeof("")
	ctx := context.Background()
	for b.Loop() {
		pairs := heap(func() any {
			type pair struct{ key, value string }
			all := make([]pair, 0, entries)
			keys, values := fresh(entries)
			for i, k := range keys {
				all = append(all, pair{k, values[i]})
			}
			return all
		})
		report := func(name string, bytes int64) {
			b.ReportMetric(float64(bytes-pairs)/entries+float64(headers), name+"-B/entry")
		}
		for _, peer := range Locals() {
			var c Container
			report(peer.Name, heap(func() any {
				var err error
				if c, err = peer.New(2 * entries); err != nil {
					b.Fatal(err)
				}
				keys, values := fresh(entries)
				if err := c.Fill(ctx, keys, values); err != nil {
					b.Fatal(err)
				}
				return c
			}))
			c.Close()
		}
		for i, peer := range Hybrids() {
			if peer.Tracking && !tracks(b) {
				continue
			}
			c, err := peer.New(ctx, sides.Redis(b).ClientOption(), unique('m', i), 2*entries)
			if err != nil {
				b.Fatal(err)
			}
			// The Store has its connections and its buffers before: a program has one Store.
			if err := c.Fill(ctx, []string{"first"}, []string{value}); err != nil {
				b.Fatal(err)
			}
			report(peer.Name, heap(func() any {
				keys, values := fresh(entries)
				if err := c.Fill(ctx, keys, values); err != nil {
					b.Fatal(err)
				}
				return c
			}))
			c.Close()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// heap returns by how much what grow returns fills the heap.
func heap(grow func() any) int64 {
	before := collected()
	kept := grow()
	after := collected()
	runtime.KeepAlive(kept)
	return after - before
}

// collected returns the bytes on the heap that are in use. What pools and
// finalizers hold goes with the second and the third collection.
func collected() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

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
// an entry. A peer has room for a tenth more than it is given, as one of many
// parts needs, and what it takes in advance counts. One that still holds fewer
// is measured by those that it holds.
func BenchmarkMemory(b *testing.B) {
	const entries, room, headers = 100_000, 110_000, 2 * unsafe.Sizeof("")
	ctx := context.Background()
	for b.Loop() {
		pair := heap(func() any {
			type pair struct{ key, value string }
			all := make([]pair, 0, entries)
			keys, values := fresh(entries)
			for i, k := range keys {
				all = append(all, pair{k, values[i]})
			}
			return all
		}) / entries
		report := func(name string, p Local, bytes float64) {
			held := p.Hits(sides.Keys(entries))
			b.ReportMetric(bytes/float64(held)-pair+float64(headers), name+"-B/entry")
		}
		fill := func(p Local) any {
			keys, values := fresh(entries)
			if err := p.Fill(ctx, keys, values); err != nil {
				b.Fatal(err)
			}
			return p
		}
		for _, peer := range Locals() {
			var c Container
			bytes := heap(func() any {
				var err error
				if c, err = peer.New(room); err != nil {
					b.Fatal(err)
				}
				return fill(c)
			})
			report(peer.Name, c, bytes)
			c.Close()
		}
		// A Store has its connections and its buffers before, and keeps them: a
		// program has one Store, however many entries.
		all := openHybrids(b, room)
		for _, h := range all {
			if err := h.p.Fill(ctx, []string{"first"}, []string{value}); err != nil {
				b.Fatal(err)
			}
		}
		for _, h := range all {
			bytes := heap(func() any { return fill(h.p) })
			report(h.name, h.p, bytes)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// heap returns by how much what grow returns fills the heap.
func heap(grow func() any) float64 {
	before := collected()
	kept := grow()
	after := collected()
	runtime.KeepAlive(kept)
	return float64(after - before)
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

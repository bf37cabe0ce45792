package benchmarks

import (
	"math/rand/v2"
	"testing"

	golru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/fifo"
	"github.com/flipcache/flipcache/lru"
)

// container is what all that are compared here can do.
type container interface {
	get(key string) (string, bool)
	set(key, value string)
}

type (
	fifoCache  struct{ *fifo.Cache[string, string] }
	fifoLocked struct{ *fifo.Locked[string, string] }
	lruCache   struct{ *lru.Cache[string, string] }
	lruLocked  struct{ *lru.Locked[string, string] }
	golruPlain struct{ *simplelru.LRU[string, string] }
	golruCache struct{ *golru.Cache[string, string] }
)

func (c fifoCache) get(k string) (string, bool)  { return c.Get(k) }
func (c fifoLocked) get(k string) (string, bool) { return c.Get(k) }
func (c lruCache) get(k string) (string, bool)   { return c.Get(k) }
func (c lruLocked) get(k string) (string, bool)  { return c.Get(k) }
func (c golruPlain) get(k string) (string, bool) { return c.Get(k) }
func (c golruCache) get(k string) (string, bool) { return c.Get(k) }

func (c fifoCache) set(k, v string)  { c.Set(k, v) }
func (c fifoLocked) set(k, v string) { c.Set(k, v) }
func (c lruCache) set(k, v string)   { c.Set(k, v) }
func (c lruLocked) set(k, v string)  { c.Set(k, v) }
func (c golruPlain) set(k, v string) { c.Add(k, v) }
func (c golruCache) set(k, v string) { c.Add(k, v) }

// BenchmarkContainers compares lru and fifo with hashicorp/golang-lru, from one
// goroutine: the plain ones with its simplelru, the locked ones with its Cache.
// Capacity is 1,000. "hit" reads keys that are there; "set" sets keys of ten
// times the capacity in turn, so that each evicts. The target is at most
// golang-lru's time.
func BenchmarkContainers(b *testing.B) {
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	plainFIFO, err := fifo.New(fifo.Options[string, string]{Capacity: keyCount})
	must(err)
	lockedFIFO, err := fifo.NewLocked(fifo.Options[string, string]{Capacity: keyCount})
	must(err)
	plainLRU, err := lru.New(lru.Options[string, string]{Capacity: keyCount})
	must(err)
	lockedLRU, err := lru.NewLocked(lru.Options[string, string]{Capacity: keyCount})
	must(err)
	plainPeer, err := simplelru.NewLRU[string, string](keyCount, nil)
	must(err)
	lockedPeer, err := golru.New[string, string](keyCount)
	must(err)

	for _, c := range []struct {
		name       string
		peer, ours container
	}{
		{"lru.Cache", golruPlain{plainPeer}, lruCache{plainLRU}},
		{"fifo.Cache", golruPlain{plainPeer}, fifoCache{plainFIFO}},
		{"lru.Locked", golruCache{lockedPeer}, lruLocked{lockedLRU}},
		{"fifo.Locked", golruCache{lockedPeer}, fifoLocked{lockedFIFO}},
	} {
		b.Run("op=hit/of="+c.name, func(b *testing.B) {
			ks := sides.Keys(keyCount)
			for _, k := range ks {
				c.peer.set(k, value)
				c.ours.set(k, value)
			}
			order := sides.Shuffled(ks, 1)
			hit := func(c container) func(int, int) {
				return func(_, n int) {
					for range n / keyCount {
						for _, k := range order {
							if v, ok := c.get(k); !ok || len(v) != len(value) {
								b.Error("not the value")
								return
							}
						}
					}
				}
			}
			sides.Compare(b, 1, 50*keyCount, sides.Side{Name: "golang-lru", Run: hit(c.peer)}, sides.Side{Name: "flipcache", Run: hit(c.ours)})
		})
		b.Run("op=set/of="+c.name, func(b *testing.B) {
			ks := sides.Keys(10 * keyCount)
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(ks), func(i, j int) { ks[i], ks[j] = ks[j], ks[i] })
			set := func(c container) func(int, int) {
				return func(_, n int) {
					for range n / len(ks) {
						for _, k := range ks {
							c.set(k, value)
						}
					}
				}
			}
			sides.Compare(b, 1, 50*keyCount, sides.Side{Name: "golang-lru", Run: set(c.peer)}, sides.Side{Name: "flipcache", Run: set(c.ours)})
		})
	}
}

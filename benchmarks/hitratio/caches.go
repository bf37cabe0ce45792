package hitratio

import (
	"github.com/Yiling-J/theine-go"
	"github.com/maypok86/otter/v2"

	"github.com/flipcache/flipcache/fifo"
)

// flipcache is the container that a hybrid.Cache has by default, sharded and
// concurrent as it ships. Its Delete is what an invalidation does: it remembers
// how the key was used.
type flipcache struct {
	c *fifo.Concurrent[uint64, struct{}]
}

func newFlipcache(capacity int) (Cache, error) {
	c, err := fifo.NewConcurrent(fifo.Options[uint64, struct{}]{Capacity: capacity})
	return flipcache{c}, err
}

func (c flipcache) Get(k uint64) bool   { _, ok := c.c.Get(k); return ok }
func (c flipcache) Set(k uint64)        { c.c.Set(k, struct{}{}) }
func (c flipcache) Invalidate(k uint64) { c.c.Delete(k) }
func (c flipcache) Len() int            { return c.c.Len() }
func (c flipcache) Close()              { c.c.Close() }

// The two libraries are made as deterministic as they can be. Both seed their
// hashes at random, so figures move from run to run: by some tenths, on small
// caches and loops by more.

// otterCache runs its maintenance on the caller, and is cleaned up after each
// Set.
type otterCache struct {
	c *otter.Cache[uint64, struct{}]
}

func newOtter(capacity int) (Cache, error) {
	c, err := otter.New(&otter.Options[uint64, struct{}]{MaximumSize: capacity, Executor: func(fn func()) { fn() }})
	return otterCache{c}, err
}

func (c otterCache) Get(k uint64) bool   { _, ok := c.c.GetIfPresent(k); return ok }
func (c otterCache) Set(k uint64)        { c.c.Set(k, struct{}{}); c.c.CleanUp() }
func (c otterCache) Invalidate(k uint64) { c.c.Invalidate(k) }
func (c otterCache) Len() int            { return c.c.EstimatedSize() }
func (c otterCache) Close()              { c.c.StopAllGoroutines() }

// theineCache is waited for after each write.
type theineCache struct {
	c *theine.Cache[uint64, struct{}]
}

func newTheine(capacity int) (Cache, error) {
	c, err := theine.NewBuilder[uint64, struct{}](int64(capacity)).Build()
	return theineCache{c}, err
}

func (c theineCache) Get(k uint64) bool   { _, ok := c.c.Get(k); return ok }
func (c theineCache) Set(k uint64)        { c.c.Set(k, struct{}{}, 1); c.c.Wait() }
func (c theineCache) Invalidate(k uint64) { c.c.Delete(k); c.c.Wait() }
func (c theineCache) Len() int            { return c.c.Len() }
func (c theineCache) Close()              { c.c.Close() }

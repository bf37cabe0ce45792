package lru

import (
	"fmt"
	"iter"

	"github.com/flipcache/flipcache/internal/bounded"
	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

// Sharded is an LRU container for any number of goroutines that gets less in
// their way than [Locked]: it is divided into up to 16 shards, each with a lock,
// its part of the capacity, of at least 256 entries, and an order of its own.
// Looking a key up takes no lock; that it was used is noted under its shard's.
//
// It holds no more than its capacity at any moment.
type Sharded[K comparable, V any] struct {
	tier    *tier.Tier[K, V]
	onEvict func(K, V, Reason)
}

// NewSharded returns an empty Sharded, or an error where o.Capacity is below 1.
// OnEvict, if there is one, is called by several goroutines at once.
func NewSharded[K comparable, V any](o Options[K, V]) (*Sharded[K, V], error) {
	if err := bounded.CheckCapacity(o.Capacity); err != nil {
		return nil, fmt.Errorf("lru: %w", err)
	}
	if o.OnEvict == nil {
		o.OnEvict = func(K, V, Reason) {}
	}
	return &Sharded[K, V]{
		tier:    tier.New[K, V](tier.Bounds{Entries: o.Capacity}, tier.LRU),
		onEvict: o.OnEvict,
	}, nil
}

// Get returns the value of key, and makes its entry the youngest of its shard.
func (c *Sharded[K, V]) Get(key K) (value V, found bool) {
	if e := c.tier.Load(key); e != nil {
		return e.Value, true
	}
	return value, false
}

// Peek is Get that changes no order. It takes no lock.
func (c *Sharded[K, V]) Peek(key K) (value V, found bool) {
	if e := c.tier.Peek(key); e != nil {
		return e.Value, true
	}
	return value, false
}

// Contains reports whether key is there. It changes no order.
func (c *Sharded[K, V]) Contains(key K) bool { return c.tier.Peek(key) != nil }

// Set sets the value of key, makes its entry the youngest of its shard, and
// returns the value that it replaced. Where a new key finds its shard full, the
// oldest entry there is evicted. A key that is not equal to itself (a NaN) is
// evicted at once.
func (c *Sharded[K, V]) Set(key K, value V) (old V, replaced bool) {
	if key != key {
		c.onEvict(key, value, Evicted)
		return old, false
	}
	before, out := c.tier.Store(key, &tier.Entry[K, V]{Value: value, Deadline: clock.Never}, 0, 0)
	if out != nil {
		c.onEvict(out.Key(), out.Value, Evicted)
	}
	if before != nil {
		return before.Value, true
	}
	return old, false
}

// Delete takes the entry of key out, and reports whether there was one.
func (c *Sharded[K, V]) Delete(key K) bool {
	e := c.tier.Delete(key)
	if e != nil {
		c.onEvict(key, e.Value, Deleted)
	}
	return e != nil
}

// Clear takes all entries out. What is set meanwhile may be taken out or stay.
func (c *Sharded[K, V]) Clear() {
	for _, e := range c.tier.Take().Entries() {
		c.onEvict(e.Key(), e.Value, Cleared)
	}
}

// Len returns the number of entries, at most Cap.
func (c *Sharded[K, V]) Len() int { return c.tier.Counts().Entries }

// Cap returns the capacity.
func (c *Sharded[K, V]) Cap() int { return c.tier.Bounds().Entries }

// All ranges over the entries, shard by shard, oldest first in each, each shard as
// it is when the loop begins. The loop may call any method, and so may others
// while it runs.
func (c *Sharded[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range c.tier.Entries() {
			if !yield(e.Key(), e.Value) {
				return
			}
		}
	}
}

// Keys ranges over the keys, as All does.
func (c *Sharded[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for key := range c.All() {
			if !yield(key) {
				return
			}
		}
	}
}

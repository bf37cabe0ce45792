package hybrid

import (
	"context"
	"fmt"
)

// Acked returns a view of the cache whose writes are acknowledged: Set, SetTTL,
// SetMany, SetIfAbsent, Update, Incr, Delete, GetAndDelete, Touch and Clear return
// nil only when no process can return an older value to a read that begins
// afterwards. Each process that listens to the cache has then said that it heard of
// the write, or its lease is over. Everything else is the same, and shared; a value
// that a loader brought is not acknowledged.
//
// It costs a round trip and an answer of each process; a process that died without
// a word costs each write its lease, for half a minute. Where Redis has failed over,
// or was restarted, within the last 10 s, writes wait until they are over. The wait
// ends with ctx, not with the Store's Timeout.
//
// The writes need StoreOptions.MaxStaleness, here and in every process of the cache.
// Their errors are those of the same methods without Acked, ErrUnconfirmed (the write
// stands), and ErrUnsupported in a Redis Cluster (nothing was done).
func (c *Cache[K, V]) Acked() *Cache[K, V] {
	view := *c
	view.acked = true
	return &view
}

// ready says whether a write may begin.
func (c *Cache[K, V]) ready(ctx context.Context) error {
	if c.acked && c.store.maxStaleness == 0 {
		return optionError("Acked needs StoreOptions.MaxStaleness: set it in every process of the cache")
	}
	if err := c.store.ready(ctx); err != nil {
		return err
	}
	if c.acked && c.store.inCluster {
		return fmt.Errorf("%w: Acked in a Redis Cluster: MaxStaleness bounds what others read there", ErrUnsupported)
	}
	return nil
}

// confirm waits, in a view whose writes are acknowledged, until all have heard of
// those of before.
func (c *Cache[K, V]) confirm(ctx context.Context) error {
	if !c.acked {
		return nil
	}
	if err := c.store.stream.Confirm(ctx, c.data, c.name); err != nil {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	return nil
}

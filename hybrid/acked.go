package hybrid

import (
	"cmp"
	"context"
	"fmt"

	"github.com/flipcache/flipcache/internal/slots"
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
// or was restarted, within the last 10 s, writes wait until they are over. In a Redis
// Cluster the same holds of the master that keeps the list of the cache's processes,
// and a write whose slot is on the move waits for the leases of all. The wait ends with
// ctx, not with the Store's Timeout.
//
// The writes need StoreOptions.MaxStaleness, here and in every process of the cache.
// Their errors are those of the same methods without Acked, and ErrUnconfirmed (the
// write stands).
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
	return c.store.ready(ctx)
}

// confirm waits, in a view whose writes are acknowledged, until all have heard of
// those of before, which were of these keys; without keys: of any.
func (c *Cache[K, V]) confirm(ctx context.Context, keys ...K) error {
	if !c.acked {
		return nil
	}
	var written []uint16
	if c.store.inCluster {
		for _, key := range keys {
			written = append(written, slots.Of(c.prefix+keyText(key)))
		}
	}
	confirm := func() error { return c.store.stream.Confirm(ctx, c.data, c.name, written...) }
	var err, late error
	if c.store.greeting.UnderWay() {
		err, late = inTime(ctx, c.store, confirm)
	} else {
		err = confirm()
	}
	if err = cmp.Or(late, err); err != nil {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	return nil
}

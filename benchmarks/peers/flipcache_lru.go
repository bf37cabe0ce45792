package peers

import (
	"context"

	"github.com/flipcache/flipcache/lru"
)

type flipcacheLRU struct{ c *lru.Sharded[string, string] }

// newFlipcacheLRU returns its LRU, alone: no codec, no TTL, no Redis.
func newFlipcacheLRU(capacity int) (Container, error) {
	c, err := lru.NewSharded(lru.Options[string, string]{Capacity: capacity})
	return flipcacheLRU{c}, err
}

func (p flipcacheLRU) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p flipcacheLRU) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Set(k, values[i])
	}
	return nil
}

func (p flipcacheLRU) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Set(k, value)
	}
}

func (p flipcacheLRU) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Set(k, value)
		}
	}
	return hits
}

func (p flipcacheLRU) Close() {}

package peers

import (
	"context"

	"github.com/viccon/sturdyc"
)

type sturdycCache struct{ c *sturdyc.Client[string] }

// newSturdyc has the shards and the evicted part of its README, and no job that
// looks for expired entries, which it says is faster.
func newSturdyc(capacity int) (Container, error) {
	return sturdycCache{sturdyc.New[string](capacity, 10, TTL, 10, sturdyc.WithNoContinuousEvictions())}, nil
}

func (p sturdycCache) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p sturdycCache) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Set(k, values[i])
	}
	return nil
}

func (p sturdycCache) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Set(k, value)
	}
}

func (p sturdycCache) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Set(k, value)
		}
	}
	return hits
}

func (p sturdycCache) Close() {}

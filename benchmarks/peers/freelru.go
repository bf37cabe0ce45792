package peers

import (
	"context"

	"github.com/cespare/xxhash/v2"
	"github.com/elastic/go-freelru"
)

type freeLRU struct {
	c *freelru.ShardedLRU[string, string]
}

// newFreeLRU returns its sharded LRU, with the hash of its README. Its memory is
// taken at once.
func newFreeLRU(capacity int) (Container, error) {
	c, err := freelru.NewSharded[string, string](uint32(capacity), func(s string) uint32 { return uint32(xxhash.Sum64String(s)) })
	if err != nil {
		return nil, err
	}
	c.SetLifetime(TTL)
	return freeLRU{c}, nil
}

func (p freeLRU) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p freeLRU) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Add(k, values[i])
	}
	return nil
}

func (p freeLRU) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Add(k, value)
	}
}

func (p freeLRU) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Add(k, value)
		}
	}
	return hits
}

func (p freeLRU) Close() {}

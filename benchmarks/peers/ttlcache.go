package peers

import (
	"context"

	"github.com/jellydator/ttlcache/v3"
)

type ttlCache struct {
	c *ttlcache.Cache[string, string]
}

// newTTLCache ends entries a fixed time after they were set: by default a hit
// prolongs them, which is slower, and no other peer's TTL.
func newTTLCache(capacity int) (Container, error) {
	c := ttlcache.New(ttlcache.WithTTL[string, string](TTL), ttlcache.WithCapacity[string, string](uint64(capacity)),
		ttlcache.WithDisableTouchOnHit[string, string]())
	go c.Start()
	return ttlCache{c}, nil
}

func (p ttlCache) get(k string) (string, bool) {
	item := p.c.Get(k)
	if item == nil {
		return "", false
	}
	return item.Value(), true
}

func (p ttlCache) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p ttlCache) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Set(k, values[i], ttlcache.DefaultTTL)
	}
	return nil
}

func (p ttlCache) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Set(k, value, ttlcache.DefaultTTL)
	}
}

func (p ttlCache) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.get(k); ok && v != "" {
			hits++
		} else {
			p.c.Set(k, value, ttlcache.DefaultTTL)
		}
	}
	return hits
}

func (p ttlCache) Close() { p.c.Stop() }

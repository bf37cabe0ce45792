package peers

import (
	"context"

	"github.com/dgraph-io/ristretto/v2"
)

type ristrettoCache struct {
	c *ristretto.Cache[string, string]
}

// newRistretto follows its documentation: ten counters an entry, BufferItems 64.
// Costs are entries, so what it adds to them by itself is ignored. It sets in
// the background, drops sets under load, and compares no keys, only two hashes.
func newRistretto(capacity int) (Container, error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, string]{
		NumCounters: int64(10 * capacity), MaxCost: int64(capacity), BufferItems: 64, IgnoreInternalCost: true,
	})
	return ristrettoCache{c}, err
}

func (p ristrettoCache) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

// Fill sets a few at a time, as a set that finds the buffer full is dropped.
func (p ristrettoCache) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.SetWithTTL(k, values[i], 1, TTL)
		if i%1000 == 999 {
			p.c.Wait()
		}
	}
	p.c.Wait()
	return nil
}

func (p ristrettoCache) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.SetWithTTL(k, value, 1, TTL)
	}
}

func (p ristrettoCache) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.SetWithTTL(k, value, 1, TTL)
		}
	}
	return hits
}

func (p ristrettoCache) Close() { p.c.Close() }

package peers

import (
	"context"

	"github.com/hashicorp/golang-lru/v2/expirable"
)

type expirableLRU struct {
	c *expirable.LRU[string, string]
}

// newExpirable returns golang-lru's LRU with a TTL. Its goroutine never ends.
func newExpirable(capacity int) (Container, error) {
	return expirableLRU{expirable.NewLRU[string, string](capacity, nil, TTL)}, nil
}

func (p expirableLRU) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p expirableLRU) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Add(k, values[i])
	}
	return nil
}

func (p expirableLRU) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Add(k, value)
	}
}

func (p expirableLRU) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Add(k, value)
		}
	}
	return hits
}

func (p expirableLRU) Close() {}

package peers

import (
	"context"

	golru "github.com/hashicorp/golang-lru/v2"
)

const golangLRUModule = "github.com/hashicorp/golang-lru/v2"

type golangLRU struct{ c *golru.Cache[string, string] }

// newGolangLRU returns its locked LRU.
func newGolangLRU(capacity int) (Container, error) {
	c, err := golru.New[string, string](capacity)
	return golangLRU{c}, err
}

func (p golangLRU) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p golangLRU) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Add(k, values[i])
	}
	return nil
}

func (p golangLRU) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Add(k, value)
	}
}

func (p golangLRU) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Add(k, value)
		}
	}
	return hits
}

func (p golangLRU) Close() {}

package peers

import (
	"context"

	"github.com/Yiling-J/theine-go"
)

type theineCache struct{ c *theine.Cache[string, string] }

// newTheine is the example of theine's README, with a TTL.
func newTheine(capacity int) (Container, error) {
	c, err := theine.NewBuilder[string, string](int64(capacity)).Build()
	return theineCache{c}, err
}

func (p theineCache) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p theineCache) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.SetWithTTL(k, values[i], 1, TTL)
	}
	p.c.Wait()
	return nil
}

func (p theineCache) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.SetWithTTL(k, value, 1, TTL)
	}
}

func (p theineCache) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.SetWithTTL(k, value, 1, TTL)
		}
	}
	return hits
}

func (p theineCache) Close() { p.c.Close() }

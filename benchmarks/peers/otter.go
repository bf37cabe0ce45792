package peers

import (
	"context"

	"github.com/maypok86/otter/v2"
)

const otterModule = "github.com/maypok86/otter/v2"

type otterCache struct{ c *otter.Cache[string, string] }

// newOtter has no options but its size: all others cost time.
func newOtter(capacity int) (Container, error) {
	return otterWith(&otter.Options[string, string]{MaximumSize: capacity})
}

// newOtterTTL ends entries a fixed time after their last write.
func newOtterTTL(capacity int) (Container, error) {
	return otterWith(&otter.Options[string, string]{MaximumSize: capacity, ExpiryCalculator: otter.ExpiryWriting[string, string](TTL)})
}

func otterWith(o *otter.Options[string, string]) (Container, error) {
	c, err := otter.New(o)
	return otterCache{c}, err
}

func (p otterCache) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.GetIfPresent(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p otterCache) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Set(k, values[i])
	}
	p.c.CleanUp()
	return nil
}

func (p otterCache) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Set(k, value)
	}
}

func (p otterCache) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.GetIfPresent(k); ok && v != "" {
			hits++
		} else {
			p.c.Set(k, value)
		}
	}
	return hits
}

func (p otterCache) Close() { p.c.StopAllGoroutines() }

package peers

import (
	"context"

	"github.com/flipcache/flipcache/fifo"
)

type flipcacheFIFO struct {
	c *fifo.Concurrent[string, string]
}

// newFlipcacheFIFO returns the container that a cache has by default, alone: no
// codec, no Redis.
func newFlipcacheFIFO(capacity int) (Container, error) {
	c, err := fifo.NewConcurrent(fifo.Options[string, string]{Capacity: capacity})
	return flipcacheFIFO{c}, err
}

func (p flipcacheFIFO) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p flipcacheFIFO) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.Set(k, values[i])
	}
	return nil
}

func (p flipcacheFIFO) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.Set(k, value)
	}
}

func (p flipcacheFIFO) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.Set(k, value)
		}
	}
	return hits
}

func (p flipcacheFIFO) Close() { p.c.Close() }

// flipcacheFIFOTTL gives each entry an end.
type flipcacheFIFOTTL struct{ flipcacheFIFO }

func newFlipcacheFIFOTTL(capacity int) (Container, error) {
	c, err := fifo.NewConcurrent(fifo.Options[string, string]{Capacity: capacity})
	return flipcacheFIFOTTL{flipcacheFIFO{c}}, err
}

func (p flipcacheFIFOTTL) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.c.SetTTL(k, values[i], TTL)
	}
	return nil
}

func (p flipcacheFIFOTTL) Sets(keys []string, value string) {
	for _, k := range keys {
		p.c.SetTTL(k, value, TTL)
	}
}

func (p flipcacheFIFOTTL) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.c.Get(k); ok && v != "" {
			hits++
		} else {
			p.c.SetTTL(k, value, TTL)
		}
	}
	return hits
}

package peers

import (
	"context"

	"github.com/puzpuzpuz/xsync/v4"
)

type xsyncMap struct{ m *xsync.Map[string, string] }

// newXsync returns an xsync.Map: no bound, no TTL.
func newXsync(int) (Container, error) { return xsyncMap{xsync.NewMap[string, string]()}, nil }

func (p xsyncMap) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.m.Load(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p xsyncMap) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.m.Store(k, values[i])
	}
	return nil
}

func (p xsyncMap) Sets(keys []string, value string) {
	for _, k := range keys {
		p.m.Store(k, value)
	}
}

func (p xsyncMap) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.m.Load(k); ok && v != "" {
			hits++
		} else {
			p.m.Store(k, value)
		}
	}
	return hits
}

func (p xsyncMap) Close() {}

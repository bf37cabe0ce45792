package peers

import (
	"context"
	"sync"
)

type syncMap struct{ m *sync.Map }

// newSyncMap returns a sync.Map: no bound, no TTL.
func newSyncMap(int) (Container, error) { return syncMap{new(sync.Map)}, nil }

// get is what every program writes around a sync.Map, whose values are any.
func (p syncMap) get(k string) (string, bool) {
	v, ok := p.m.Load(k)
	if !ok {
		return "", false
	}
	return v.(string), true
}

func (p syncMap) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.get(k); ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p syncMap) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.m.Store(k, values[i])
	}
	return nil
}

func (p syncMap) Sets(keys []string, value string) {
	for _, k := range keys {
		p.m.Store(k, value)
	}
}

func (p syncMap) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.get(k); ok && v != "" {
			hits++
		} else {
			p.m.Store(k, value)
		}
	}
	return hits
}

func (p syncMap) Close() {}

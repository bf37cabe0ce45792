package peers

import (
	"context"
)

type plainMap struct{ m map[string]string }

// newMap returns a map of Go: no bound, no TTL, one goroutine.
func newMap(int) (Container, error) { return plainMap{make(map[string]string)}, nil }

func (p plainMap) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, ok := p.m[k]; ok && v != "" {
			hits++
		}
	}
	return hits
}

func (p plainMap) Fill(_ context.Context, keys, values []string) error {
	for i, k := range keys {
		p.m[k] = values[i]
	}
	return nil
}

func (p plainMap) Sets(keys []string, value string) {
	for _, k := range keys {
		p.m[k] = value
	}
}

func (p plainMap) Fetch(keys []string, value string) (hits int) {
	for _, k := range keys {
		if v, ok := p.m[k]; ok && v != "" {
			hits++
		} else {
			p.m[k] = value
		}
	}
	return hits
}

func (p plainMap) Close() {}

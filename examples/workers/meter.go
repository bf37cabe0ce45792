//go:build unix

package main

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
)

// measured is what a worker's meter tells the parent.
type measured struct {
	LocalHits, Sent, Received uint64
	Local, Redis, Age         *hdrhistogram.Snapshot // ns, ns, µs
}

// meter tells hits from misses by the cache's own counters: the goroutine that
// it measures is the only reader.
type meter struct {
	cache            *hybrid.Cache[string, []byte]
	before           hybrid.Stats
	misses           uint64
	hits             uint64
	local, slow, age *hdrhistogram.Histogram
}

// join makes what a worker needs.
func join(ctx context.Context, c fleet.Config) (fleet.Cache, fleet.Meter, error) {
	v, err := parseVariant(c.Variant, c.MaxStaleness)
	if err != nil {
		return nil, nil, err
	}
	store, cache, err := open(ctx, c, v)
	if err != nil {
		return nil, nil, err
	}
	m := member{store: store, cache: cache, write: cache, size: c.ValueSize}
	if v.acked {
		m.write = cache.Acked()
	}
	return m, &meter{
		cache: cache,
		local: hdrhistogram.New(1, int64(time.Minute), 3),
		slow:  hdrhistogram.New(1, int64(time.Minute), 3),
		age:   hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3),
	}, nil
}

func (m *meter) Start() {
	m.before = m.cache.Stats()
	m.misses = m.before.Misses
}

func (m *meter) Read(took time.Duration, ok bool) {
	now := m.cache.Stats().Misses
	switch {
	case !ok:
	case now == m.misses:
		m.hits++
		m.local.RecordValue(int64(took))
	default:
		m.slow.RecordValue(int64(took))
	}
	m.misses = now
}

func (m *meter) Stale(age time.Duration) { m.age.RecordValue(max(1, age.Microseconds())) }

func (m *meter) End() any {
	s := m.cache.Stats()
	return measured{
		LocalHits: m.hits, Sent: s.Sent - m.before.Sent, Received: s.Received - m.before.Received,
		Local: m.local.Export(), Redis: m.slow.Export(), Age: m.age.Export(),
	}
}

//go:build unix

package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/judge"
	"github.com/flipcache/flipcache/invalidate"
)

// measured is what a worker's meter tells the parent.
type measured struct {
	LocalHits, Sent, Received uint64
	Oldest                    time.Duration          // stale value that was served locally
	Served                    []time.Duration        // when a tier first served, after each time that it had been cut
	Local, Redis, Age         *hdrhistogram.Snapshot // ns, ns, µs
}

// meter tells hits from misses by the cache's own counters: the goroutine that
// it measures is the only reader.
type meter struct {
	cache            *hybrid.Cache[string, []byte]
	before           hybrid.Stats
	misses           uint64
	hits             uint64
	live             *atomic.Bool // it went live, and has not served since
	served           []time.Duration
	oldest           time.Duration // of what was served locally
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
	live := new(atomic.Bool)
	store.OnState(func(s invalidate.State) { live.Store(s.Status == invalidate.Live) })
	return m, &meter{
		cache: cache,
		live:  live,
		local: hdrhistogram.New(1, int64(time.Minute), 3),
		slow:  hdrhistogram.New(1, int64(time.Minute), 3),
		age:   hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3),
	}, nil
}

func (m *meter) Start() {
	m.before = m.cache.Stats()
	m.misses = m.before.Misses
}

func (m *meter) Read(took time.Duration, ok bool) (local bool) {
	now := m.cache.Stats().Misses
	switch {
	case !ok:
	case now == m.misses:
		local = true
		m.hits++
		if m.live.Load() && m.live.CompareAndSwap(true, false) {
			m.served = append(m.served, judge.Now())
		}
		m.local.RecordValue(int64(took))
	default:
		m.slow.RecordValue(int64(took))
	}
	m.misses = now
	return local
}

func (m *meter) Stale(age time.Duration, local bool) {
	m.age.RecordValue(max(1, age.Microseconds()))
	if local {
		m.oldest = max(m.oldest, age)
	}
}

func (m *meter) End() any {
	s := m.cache.Stats()
	return measured{
		LocalHits: m.hits, Sent: s.Sent - m.before.Sent, Received: s.Received - m.before.Received, Served: m.served, Oldest: m.oldest,
		Local: m.local.Export(), Redis: m.slow.Export(), Age: m.age.Export(),
	}
}

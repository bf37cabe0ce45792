package hybrid

import (
	"math"
	"sync/atomic"
	"time"
)

// Stats counts what a cache did since New. All but Entries and Bytes only grow.
type Stats struct {
	Hits     uint64 // reads answered by the local tier
	Misses   uint64 // reads that had to ask Redis, or to wait for one that did
	Fills    uint64 // commands that read a value from Redis
	Loads    uint64 // calls of a loader
	Writes   uint64 // keys written, deleted or touched in Redis
	Sent     uint64 // keys whose change was announced to other processes
	Received uint64 // keys whose change another process announced; in Tracking, that Redis told of, own writes among them
	Evicted  uint64 // entries that left the local tier to make room
	Entries  int    // in the local tier now, those among them that have ended and whose place nobody has needed yet
	Bytes    int64  // that they count for; 0 without LocalBytes

	// StaleHits counts reads that Redis did not answer and ServeStaleFor did.
	StaleHits uint64

	// Refreshes counts keys whose TTL this process set anew for
	// RefreshTTLOnGet, RefreshErrors how often that failed; the read itself
	// did not.
	Refreshes, RefreshErrors uint64

	// WriteBackErrors counts loaded values that were returned to the caller
	// and could not be stored in Redis.
	WriteBackErrors uint64

	// Audit is what Options.Audit found; zero without it.
	Audit AuditStats
}

// AuditStats are what Options.Audit found. A checked hit was compared with Redis; it
// is stale if Redis held another value, and the local tier served the hit's entry
// still 100 ms later. What is younger may be an invalidation under way, and counts as
// good.
type AuditStats struct {
	Checked uint64
	Skipped uint64 // drawn, but not checked: too many at a time, or no answer from Redis

	// Stale hits, by how long at least their value had been replaced.
	Under1s, Under5s, Under60s, Over60s uint64
	Worst                               time.Duration // the longest of those times
}

// Stale returns the number of stale hits whose value had been replaced for age, at
// least: 0 for all of them, 1 s, 5 s or 60 s; any other is rounded down to one of
// these.
func (a AuditStats) Stale(age time.Duration) (n uint64) {
	for i := bucket(max(age, 0)); i < len(ages)+1; i++ {
		n += [...]uint64{a.Under1s, a.Under5s, a.Under60s, a.Over60s}[i]
	}
	return n
}

// Nines returns how consistent local hits are, in nines: 3 says that 99.9 % of those
// that were checked were not stale for age, as Stale counts it. Fewer than three stale
// hits count as three, since no less can be ruled out by as many checks as these (at
// 95 % confidence): without a stale hit 5 nines take 300,000 checks. It is 0 where too
// few were checked.
func (a AuditStats) Nines(age time.Duration) float64 {
	bad := max(3, float64(a.Stale(age)))
	if float64(a.Checked) <= bad {
		return 0
	}
	return math.Log10(float64(a.Checked) / bad)
}

// counters are those off the hit path.
type counters struct {
	misses, fills, loads, writes, sent, received, writeBackErrors, refreshes, refreshErrors, staleHits atomic.Uint64
}

// Stats returns the counts so far. They are read one after the other, not in
// one instant.
func (c *Cache[K, V]) Stats() Stats {
	s := Stats{
		Hits:            c.hits.Load(),
		Misses:          c.counters.misses.Load(),
		Fills:           c.counters.fills.Load(),
		Loads:           c.counters.loads.Load(),
		Writes:          c.counters.writes.Load(),
		Sent:            c.counters.sent.Load(),
		Received:        c.counters.received.Load(),
		Refreshes:       c.counters.refreshes.Load(),
		RefreshErrors:   c.counters.refreshErrors.Load(),
		WriteBackErrors: c.counters.writeBackErrors.Load(),
		StaleHits:       c.counters.staleHits.Load(),
	}
	if c.tier != nil {
		n := c.tier.Counts()
		s.Entries, s.Bytes, s.Evicted = n.Entries, n.Bytes, n.Evicted
	}
	if c.audit != nil {
		s.Audit = c.audit.counters.stats()
	}
	return s
}

type auditCounters struct {
	checked, skipped atomic.Uint64
	stale            [len(ages) + 1]atomic.Uint64
	worst            atomic.Int64
}

func (a *auditCounters) stats() AuditStats {
	return AuditStats{
		Checked: a.checked.Load(), Skipped: a.skipped.Load(),
		Under1s: a.stale[0].Load(), Under5s: a.stale[1].Load(), Under60s: a.stale[2].Load(), Over60s: a.stale[3].Load(),
		Worst: time.Duration(a.worst.Load()),
	}
}

// ages are the bounds of AuditStats' counts.
var ages = [...]time.Duration{time.Second, 5 * time.Second, time.Minute}

// bucket is the place of age among them.
func bucket(age time.Duration) (i int) {
	for i < len(ages) && age >= ages[i] {
		i++
	}
	return i
}

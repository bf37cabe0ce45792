package hybrid

import "sync/atomic"

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
	return s
}

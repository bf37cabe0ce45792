package invalidate

import (
	"sync/atomic"
	"time"
)

// lease says until when the local tiers may serve, on the clock of
// internal/clock. Answered probes alone extend it: what Redis did before it took
// the probe, the tiers were told before they heard the answer; so for
// MaxStaleness from when the probe was sent, nothing that they hold was
// replaced longer ago.
type lease struct {
	max   time.Duration // 0: no lease
	until *atomic.Int64
}

// grant extends the lease by a probe that was sent at this time.
//
// REQUIRES: Stream.mu held.
func (l *lease) grant(sent int64) {
	if until := sent + int64(l.max); l.max > 0 && until > l.until.Load() {
		l.until.Store(until)
	}
}

// Lease returns until when this process's local tiers may serve, on the clock
// of internal/clock; nil without MaxStaleness. A read loads the lease, then its
// entry, then the exact clock: in any other order a process that is stopped in
// between could serve what it must not.
func (s *Stream) Lease() *atomic.Int64 {
	if s.lease.max == 0 {
		return nil
	}
	return s.lease.until
}

// MaxStaleness returns what the Config said.
func (s *Stream) MaxStaleness() time.Duration { return s.lease.max }

// MinStaleness is the least MaxStaleness that can be kept: probes go out every
// third of it, and a round trip has to fit in as well.
const MinStaleness = 30 * time.Millisecond

// MaxMaxStaleness is the longest lease.
const MaxMaxStaleness = membership / 2

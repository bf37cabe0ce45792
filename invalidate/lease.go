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
	until *atomic.Int64 // Config.Lease
}

// grant extends the lease by a probe that was sent at this time.
//
// REQUIRES: Stream.mu held.
func (l *lease) grant(sent int64) {
	if until := sent + int64(l.max); l.max > 0 && until > l.until.Load() {
		l.until.Store(until)
	}
}

// MinStaleness is the least MaxStaleness that can be kept: probes go out every
// third of it, and a round trip has to fit in as well.
const MinStaleness = 30 * time.Millisecond

// MaxMaxStaleness is the longest lease. An acknowledged write waits so long where a
// failover may have lost who listens.
const MaxMaxStaleness = 10 * time.Second

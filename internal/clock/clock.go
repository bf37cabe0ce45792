// Package clock tells the monotonic time that local deadlines are measured by:
// exactly, at the cost of a clock read, or coarsely, at the cost of one atomic
// load.
package clock

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Tick is how far a Coarse clock lags behind while the process gets its share
// of a processor. Under load the ticker comes late: Slack is what nobody should
// ever see. A deadline that is further away by the coarse clock is still ahead;
// one that is nearer has to be compared with the exact clock.
const (
	Tick  = 20 * time.Millisecond
	Slack = 10 * Tick
)

// Never is the deadline of what does not expire.
const Never = math.MaxInt64

// idleTicks is how many ticks without a reader park a Coarse clock.
const idleTicks = 50

// base lies so far back that no time is negative, not even in testing/synctest,
// where the clock starts in the year 2000.
var base = time.Now().Add(-100 * 365 * 24 * time.Hour)

// Now returns the exact monotonic time in nanoseconds. The wall clock's jumps do
// not move it.
func Now() int64 { return int64(time.Since(base)) }

// Coarse says whether deadlines are ahead, by one atomic load as long as they
// are further away than Slack. A ticker moves it; when nobody asks for a second
// that ends, and the next to ask starts it again. Safe for concurrent use.
type Coarse struct {
	// v is the time of the last tick and Slack: later deadlines are ahead for
	// certain. With the highest bit set nobody has asked in this tick. Either
	// that or parked is more than any deadline, so who asks has to look closer.
	v atomic.Uint64

	manual func() int64 // nil: Now

	mu     sync.Mutex // guards closed and the starting of the ticker
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

const (
	unasked = 1 << 63
	parked  = math.MaxUint64
)

// NewCoarse returns a parked clock. Close ends it.
func NewCoarse() *Coarse { return newCoarse(nil) }

// NewManual returns a clock that shows what now returns, for tests.
func NewManual(now func() int64) *Coarse {
	c := newCoarse(now)
	c.closed = true
	return c
}

func newCoarse(manual func() int64) *Coarse {
	c := &Coarse{manual: manual, stop: make(chan struct{})}
	c.v.Store(parked)
	return c
}

// Exact returns the exact time of the same clock.
func (c *Coarse) Exact() int64 {
	if c.manual != nil {
		return c.manual()
	}
	return Now()
}

// Ahead reports whether both deadline and until are ahead. until is one that a
// process which was stopped may not overstep: for it the exact clock is read,
// unless it is Never. Neither is negative.
func (c *Coarse) Ahead(deadline, until int64) bool {
	return until == Never && c.v.Load() < uint64(deadline) || c.ahead(deadline, until)
}

func (c *Coarse) ahead(deadline, until int64) bool {
	if until == Never && c.ask() < uint64(deadline) {
		return true
	}
	now := c.Exact()
	return now < until && now < deadline
}

// ask returns v, and tells the ticker that somebody has asked.
func (c *Coarse) ask() uint64 {
	v := c.v.Load()
	switch {
	case v == parked:
		c.start()
	case v&unasked != 0 && c.v.CompareAndSwap(v, v&^unasked):
		return v &^ unasked
	}
	return v
}

func (c *Coarse) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.v.Load() == parked && !c.closed {
		c.v.Store(uint64(c.Exact()) + uint64(Slack))
		c.wg.Go(c.run)
	}
}

func (c *Coarse) run() {
	t := time.NewTicker(Tick)
	defer t.Stop()
	for idle := 0; ; {
		select {
		case <-c.stop:
			c.v.Store(parked)
			return
		case <-t.C:
		}
		v := c.v.Load()
		if v&unasked == 0 {
			idle = 0
		} else if idle++; idle >= idleTicks && c.v.CompareAndSwap(v, parked) {
			return
		}
		c.v.Store(uint64(c.Exact()+int64(Slack)) | unasked)
	}
}

// Close ends the ticker and waits for it. All methods go on to work, at the cost
// of an exact reading each.
func (c *Coarse) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.stop)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

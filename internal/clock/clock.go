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
// ever see. A deadline that is further away than Slack by the coarse clock is
// still ahead; one that is nearer has to be compared with the exact clock.
const (
	Tick  = 20 * time.Millisecond
	Slack = 10 * Tick
)

// Never is the deadline of what does not expire.
const Never = math.MaxInt64

// idleTicks is how many ticks without a reader park a Coarse clock.
const idleTicks = 50

var base = time.Now()

// Now returns the exact monotonic time in nanoseconds since the process
// started. The wall clock's jumps do not move it.
func Now() int64 { return int64(time.Since(base)) }

// Coarse is a clock that a ticker moves and that is read by one atomic load.
// When nobody reads it for a second its ticker ends; the next reader pays one
// exact read and starts it again. Safe for concurrent use.
type Coarse struct {
	// v is the time of the last tick. Its lowest bit says that somebody has
	// read this tick; parked is the one value that is no time.
	v   atomic.Int64
	now func() int64

	mu     sync.Mutex // guards closed and the starting of the ticker
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

const parked = math.MaxInt64 - 1 // even, hence never taken for a tick that was read

// NewCoarse returns a parked clock. Close ends it.
func NewCoarse() *Coarse { return newCoarse(Now) }

// NewManual returns a clock that shows what now returns at every reading, for
// tests.
func NewManual(now func() int64) *Coarse {
	c := newCoarse(now)
	c.closed = true
	return c
}

func newCoarse(now func() int64) *Coarse {
	c := &Coarse{now: now, stop: make(chan struct{})}
	c.v.Store(parked)
	return c
}

// Now returns the time of the last tick, which is never later than the exact
// time, in the same units as the package's Now.
func (c *Coarse) Now() int64 {
	if v := c.v.Load(); v&1 == 1 {
		return v
	}
	return c.slow()
}

// Exact returns the exact time of the same clock.
func (c *Coarse) Exact() int64 { return c.now() }

func (c *Coarse) slow() int64 {
	if v := c.v.Load(); v != parked {
		c.v.CompareAndSwap(v, v|1)
		return v
	}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.v.Load() == parked && !c.closed {
		c.v.Store((now - 1) | 1)
		c.wg.Go(c.run)
	}
	return now
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
		if v&1 == 1 {
			idle = 0
		} else if idle++; idle >= idleTicks && c.v.CompareAndSwap(v, parked) {
			return
		}
		c.v.Store(c.now() &^ 1)
	}
}

// Close ends the ticker and waits for it. Readings stay possible, at the cost
// of an exact one each.
func (c *Coarse) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.stop)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

package hybrid

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
)

// errTimeout is why a context ended that the Store bounds.
var errTimeout = errors.New("the Store's Timeout")

// timeouts hands out contexts that end after timeout, or up to 1/16 of it later:
// operations that begin about the same time share one, so that not each has to make
// a context and to start a timer, which costs as much as all else that this process
// does for a write. Safe for concurrent use.
type timeouts struct {
	parent  context.Context
	timeout time.Duration

	newest atomic.Pointer[sharedContext]
	mu     sync.Mutex // of who makes the next one
}

type sharedContext struct {
	context.Context
	cancel context.CancelFunc // its deadline calls it
	until  int64              // for operations that begin before, by clock.Now
}

const boundShare = 16

// context returns a context for an operation that begins now.
func (b *timeouts) context() context.Context {
	now := clock.Now()
	if c := b.newest.Load(); c != nil && now < c.until {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.newest.Load(); c != nil && now < c.until {
		return c
	}
	share := min(b.timeout/boundShare, math.MaxInt64-b.timeout)
	c := &sharedContext{until: now + int64(share)}
	c.Context, c.cancel = context.WithTimeoutCause(b.parent, b.timeout+share, errTimeout)
	b.newest.Store(c)
	return c
}

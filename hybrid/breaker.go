package hybrid

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/flights"
)

// breaker has operations fail at once where Redis has failed to answer many in
// a row, but for one at a time that looks whether it is back: nobody waits for
// what does not come, and no goroutines pile up. (Nygard, "Release It!", 2007.)
//
// It counts what has no answer in time, and connections that broke: all that
// hung on one counts once. What Redis answers, be it an error, is one; what
// a caller's own context ended says nothing.
type breaker struct {
	failing atomic.Bool   // failures is not 0: all that a success has to look at
	broken  atomic.Uint64 // connections that broke so far

	mu       sync.Mutex // guards all below
	failures int        // in a row
	until    time.Time  // open until then; zero: closed
	pause    time.Duration
	cause    error
	trying   bool // one is under way although it is open: its pass says so
}

// A pass is what an operation entered with.
type pass struct {
	broken uint64 // connections that had broken
	trial  bool   // the breaker was open
}

const (
	breakAfter    = 8
	minBreakPause = 10 * time.Millisecond
	maxBreakPause = time.Second
)

// enter says whether an operation may be sent; if so, leave has to follow.
func (b *breaker) enter() (p pass, err error) {
	p.broken = b.broken.Load()
	if !b.failing.Load() {
		return p, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures < breakAfter:
	case b.trying || time.Now().Before(b.until):
		return p, fmt.Errorf("%w; the last of %d attempts: %w", ErrCut, b.failures, b.cause)
	default:
		b.trying, p.trial = true, true
	}
	return p, nil
}

// leave tells how an operation under ctx, the caller's own, ended.
func (b *breaker) leave(ctx context.Context, p pass, err error) {
	own := ctx.Err() != nil && context.Cause(ctx) != errTimeout
	silent := noAnswer(err) && !own
	if !silent && !p.trial && !b.failing.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.trial {
		b.trying = false
	}
	switch {
	case silent && !errors.Is(err, context.DeadlineExceeded) && p.broken != b.broken.Load():
		// The connection on which it hung was counted already.
	case silent:
		if !errors.Is(err, context.DeadlineExceeded) {
			b.broken.Add(1)
		}
		// What was under way when it opened says nothing new.
		if b.failures++; b.failures == breakAfter || b.failures > breakAfter && p.trial {
			b.pause = min(max(2*b.pause, minBreakPause), maxBreakPause)
			b.until = time.Now().Add(b.pause)
		}
		b.cause = err
		b.failing.Store(true)
	case !noAnswer(err):
		b.failures, b.pause, b.cause = 0, 0, nil
		b.failing.Store(false)
	}
}

// noAnswer says whether err is of an operation that Redis was asked for, and did
// not answer.
func noAnswer(err error) bool {
	for _, other := range []error{rueidis.ErrClosing, flights.ErrClosed, ErrClosed, ErrCut, errNotSent, ErrDecode} {
		if errors.Is(err, other) {
			return false
		}
	}
	if err == nil || rueidis.IsRedisNil(err) || rueidis.IsParseErr(err) {
		return false
	}
	re := (*rueidis.RedisError)(nil)
	return !errors.As(err, &re)
}
